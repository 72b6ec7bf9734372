"""The client an application uses: string ids in, string ids and scores out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from clients.codec import Recommendations, decode, encode
from clients.errors import VocabularyMismatch
from clients.grpc_model import DEFAULT_URL, GrpcModel
from distilrec.data.vocabulary import Vocabulary, load_vocabulary
from distilrec.specs import MODEL_NAME


class RecommenderClient:
    """Asks a served recommender.

    >>> with RecommenderClient("127.0.0.1:8001", vocabulary="triton_repo/student/1/vocabulary.json") as client:
    ...     for item_id, score in client.recommend(["50", "181"], k=3):
    ...         print(item_id, score)

    Args:
        url: host and port of Triton's gRPC endpoint.
        vocabulary: the vocabulary, or the path of the vocabulary.json that lies beside the served model.
        model: name of the model.
        timeout_s: seconds each call may take.

    Raises:
        VocabularyMismatch: the server's model was made for another vocabulary.
        ServerUnavailable, DeadlineExceeded, ModelNotFound: as their names say.
        DataError: ``vocabulary`` cannot be read.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, vocabulary: Vocabulary | Path | str, model: str = MODEL_NAME, timeout_s: float = 5.0
    ) -> None:
        self.vocabulary = vocabulary if isinstance(vocabulary, Vocabulary) else load_vocabulary(Path(vocabulary))
        self._model = GrpcModel(url, model, timeout_s)
        if self._model.vocabulary_sha256 != self.vocabulary.sha256:
            self.close()
            raise VocabularyMismatch(
                f"{url}, model {model!r}: found vocabulary {self._model.vocabulary_sha256[:12]}..., the client has"
                f" {self.vocabulary.sha256[:12]}...; give it the vocabulary.json that lies beside the served model"
            )

    def recommend(self, history: Sequence[str], k: int = 10, exclude: Sequence[str] = ()) -> Recommendations:
        """Recommend ``k`` items after ``history``.

        Args:
            history: item ids, oldest first. Unknown ids are left out and counted; an empty history gets the most popular items.
            k: how many items, at most what the model was exported for.
            exclude: ids that must not be recommended, beside those of the history.

        Raises:
            InvalidRequest: ids that are not strings, k out of range, too many ids to exclude.
            ServerUnavailable, DeadlineExceeded, ModelNotFound: as their names say.
        """
        request = encode(history, exclude, k, self.vocabulary, self._model.spec)
        items, scores, version = self._model.recommend_with_version(request.history, request.exclude)
        return decode(items, scores, request, self.vocabulary, version)

    def close(self) -> None:
        """Close the connection."""
        self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
