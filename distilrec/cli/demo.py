"""The demo: all stages, a live server, one user's recommendations by title, and the table of all models."""

import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from distilrec.config import Config
from distilrec.core.errors import ServerError
from distilrec.core.printable import printable
from distilrec.pipeline.comparison import compare_models, comparison_table
from distilrec.pipeline.finished import student_verdict, teachers_verdict
from distilrec.pipeline.folders import run_dir
from distilrec.pipeline.models import why_teacher_is_left_out
from distilrec.pipeline.stages import run_all
from distilrec.serving.process.server import TritonServer, free_ports

logger = logging.getLogger(__name__)

_SHOWN_HISTORY = 10
_SHOWN_ITEMS = 10


def run_demo(config: Config, say: Callable[[str], None]) -> None:
    """Run all stages, start a real tritonserver on free ports, print its answers and the table, and stop it.

    Args:
        config: Settings of the run.
        say: Function that prints a text.

    Raises:
        DistilRecError: A stage failed, or the server could not be started or stopped.
    """
    artefact = run_all(config)
    with tempfile.TemporaryDirectory() as logs:
        logger.info("tritonserver: starting on %s", config.export.repository)
        with TritonServer(config.export.repository, free_ports(), Path(logs) / "tritonserver.log") as server:
            say(example_user(config, server.url))
            comparison = compare_models(config, server.url)
            status = server.stop()
    if status:
        raise ServerError(f"tritonserver ended with status {status}, expected 0")
    users = comparison.users
    say(f"\n{comparison_table(comparison.rows)}\n")
    say(f"Full ranking of the whole catalogue for {len(users.users)} held-out users of {config.name}, seen items removed")
    say(f"({users.unjudged_users} users have no held-out item, {users.truncated_users} saw more items than a request can name).")
    say(f"Teachers: {teachers_verdict(config)['reason']}.")
    say(f"Student: {student_verdict(config)['reason']}.")
    note = why_teacher_is_left_out(config, users)
    if note:
        say(note)
    for what, reason in export_verdicts(artefact).items():
        say(f"{what}: {reason}.")
    say("p50: one request in flight, one thread. tritonserver was stopped and ended cleanly.")


def export_verdicts(artefact: Path) -> dict[str, str]:
    """Return the reasons for the served precision and, where an approximate head was considered, for the served head.

    Args:
        artefact: Folder of the export.
    """
    from export.artefact import REPORT_FILE

    report = json.loads((artefact / REPORT_FILE).read_text(encoding="utf-8"))
    head = {"Head": report["head"]["reason"]} if "head" in report else {}
    return {"Precision": report["verdict"]["reason"], **head}


def example_user(config: Config, url: str) -> str:
    """Return the first user's history and top 10 by title, as a server answers a request with string ids.

    Args:
        config: Settings of the run.
        url: Host and port of the server's gRPC endpoint.
    """
    from clients import RecommenderClient
    from distilrec.data.stage import load

    dataset, vocabulary = load(run_dir(config) / "data")
    history = vocabulary.decode(dataset.sequence(0)[: dataset.test_start[0]].tolist())
    with RecommenderClient(url, vocabulary=vocabulary) as client:
        answer = client.recommend(history, k=min(_SHOWN_ITEMS, len(vocabulary)))
    newest = history[-_SHOWN_HISTORY:]
    lines = [f"\nA user's history, newest last ({len(newest)} of {len(history)} items):"]
    lines += [f"    {printable(vocabulary.title(item_id))}" for item_id in newest]
    lines += [f"Top {len(answer)} from tritonserver at {url} (model version {answer.model_version}):"]
    for rank, (item_id, score) in enumerate(answer, start=1):
        lines.append(f"{rank:4d}  {score:7.3f}  {printable(vocabulary.title(item_id))}")
    return "\n".join(lines)
