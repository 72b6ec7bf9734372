"""Recommendations in this process: an exported artefact on ONNX Runtime, asked as the client asks a server."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from clients.codec import Filter, Query, Recommendations, Repeats, check_k, decode, encode, pack
from distilrec.config import spec_of_artefact
from distilrec.core.errors import MissingExtraError
from distilrec.core.filters import FilterValues
from distilrec.core.manifest import verify_manifest
from distilrec.core.specs import Precision
from distilrec.data.vocabulary import FILE_NAME, load_vocabulary

_BATCH_SIZE = 64


class LocalRecommender:
    """An exported student, in the precision that is served. It answers as the server would, to the same calls as the client.

    Args:
        artefact: Folder of an export.
        precision: Another precision than the one that is served.
        threads: Threads of ONNX Runtime.

    Raises:
        ManifestError: There is no whole artefact.
        MissingExtraError: ONNX Runtime is not installed.
        ParityError: The model cannot be loaded.
    """

    def __init__(self, artefact: Path, *, precision: Precision | None = None, threads: int = 1) -> None:
        try:
            # Optional, and slow to load.
            from export.artefact import model_path
            from export.graph.onnx_runner import OnnxRunner
        except ModuleNotFoundError as error:
            raise MissingExtraError(f"The package {error.name!r}", "export") from error
        manifest = verify_manifest(artefact)
        self.spec = spec_of_artefact(manifest)
        self.vocabulary = load_vocabulary(artefact / FILE_NAME)
        self.filters = FilterValues(manifest.metrics.get("filters", {}))
        self.precision = precision or Precision(manifest.metrics["precision"])
        self.digest = manifest.digest
        self._runner = OnnxRunner(model_path(artefact, self.precision), self.spec, threads)

    def recommend(
        self,
        history: Iterable[str],
        k: int = 10,
        *,
        exclude: Iterable[str] = (),
        filter: Filter | None = None,  # noqa: A002 - what it is
        allow: Iterable[str] | None = None,
        repeats: Repeats = "never",
    ) -> Recommendations:
        """Recommend ``k`` items after one history; arguments, result and errors as ``RecommenderClient.recommend``."""
        return self._ask([Query(history, exclude, filter, allow, repeats)], k)[0]

    def recommend_many(self, histories: Sequence[Iterable[str]], k: int = 10) -> list[Recommendations]:
        """Recommend ``k`` items after each history."""
        starts = range(0, len(histories), _BATCH_SIZE)
        parts = (self._ask([Query(history) for history in histories[start : start + _BATCH_SIZE]], k) for start in starts)
        return [answer for part in parts for answer in part]

    def similar(self, item_id: str, k: int = 10) -> Recommendations:
        """The ``k`` items most like this one; the model needs ``export.similar``."""
        return self._ask([Query([item_id], similar=True)], k)[0]

    def _ask(self, queries: Sequence[Query], k: int) -> list[Recommendations]:
        began = time.perf_counter()
        check_k(k, self.spec)
        encoded = [encode(query, self.vocabulary, self.spec, self.filters) for query in queries]
        items, scores = self._runner.recommend(*pack(encoded, self.spec))
        latency_ms = 1e3 * (time.perf_counter() - began)
        return decode(items, scores, encoded, k, vocabulary=self.vocabulary, model_version=self.digest[:12], latency_ms=latency_ms)
