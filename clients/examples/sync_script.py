"""A script that asks for recommendations: ``python -m clients.examples.sync_script HOST:PORT ID [ID ...]``."""

import sys

from clients import ClientError, RecommenderClient


def main(url: str, history: list[str]) -> int:
    """Print what to recommend after ``history``; returns the exit status."""
    try:
        # One client for the whole program: it may be shared between threads, connects with the first call and follows a server that
        # restarts or gets a new model. All calls end within timeout_s, retries included.
        with RecommenderClient(url, timeout_s=5.0) as client:
            answer = client.recommend(history, k=5)
            # Many histories: packed, several requests at once, in order. One that cannot be asked has its error in its place.
            shorter = [history[:length] for length in range(len(history))]
            answers = client.recommend_many(shorter, k=1)
    except ClientError as error:  # of all kinds: no server, no answer in time, another model, a wrong request
        print(error, file=sys.stderr)
        return 1
    for (item_id, score), title in zip(answer, answer.titles, strict=True):
        print(f"{score:8.3f}  {item_id}  {title}")
    if answer.unknown_ids:
        print(f"not known to the model, left out: {', '.join(answer.unknown_ids)}")
    for length, best in enumerate(answers):
        found = best.reason if isinstance(best, ClientError) else ", ".join(best.titles)
        print(f"after {length} item(s): {found}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
