"""An approximate head behind the serving contract, and whatever head an export serves."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distilrec.core.errors import MissingExtraError, ParityError
from distilrec.core.manifest import Manifest
from distilrec.core.runner import NOTHING_CHOSEN, Answer, Choices, request_arrays
from distilrec.core.specs import Head, Precision, RecommenderSpec
from export.artefact import head_folder, model_path, served_head
from export.graph.onnx_runner import OnnxRunner


class ApproximateRunner:
    """Runs the files of an approximate head.

    Args:
        folder: Folder with the files.
        spec: Sizes that its tensors must have.
        probes: Lists that are read for a request, in place of those in the folder's settings.

    Raises:
        MissingExtraError: faiss is not installed.
        ParityError: A file is missing or damaged, they do not belong together, or they are for another catalogue.
    """

    def __init__(self, folder: Path, spec: RecommenderSpec, probes: int | None = None) -> None:
        try:
            from export.heads.approximate import ApproximateHead  # here, because faiss is optional
            from export.heads.head_files import HeadError, open_head
        except ModuleNotFoundError as error:
            raise MissingExtraError(f"The package {error.name!r}", "scale") from error
        try:
            self.head = ApproximateHead(open_head(folder), probes)
        except HeadError as error:
            raise ParityError(str(error)) from error
        self.spec = spec
        found = (self.head.settings.item_count, self.head.settings.top_k)
        if found != (spec.item_count, spec.top_k):
            raise ParityError(
                f"{folder}: found a head for {found[0]:,} items and the top {found[1]}, expected {spec.item_count:,} and"
                f" {spec.top_k}. Export again: distilrec export"
            )

    def recommend(self, history: NDArray[np.int32], exclude: NDArray[np.int32], choices: Choices = NOTHING_CHOSEN) -> Answer:
        """int32 [B, L], int32 [B, E] and optional tensors -> items int32 [B, K] and scores float32 [B, K]."""
        return self.head.recommend(request_arrays(self.spec, history, exclude, choices))

    def scores(self, history: NDArray[np.int32], exclude: NDArray[np.int32]) -> NDArray[np.float32]:
        """Scores of the whole catalogue, see ``ScoringRunner``."""
        return self.head.scores(history, exclude)

    @property
    def lists(self) -> int:
        """Number of lists of the index."""
        return int(self.head.index.nlist)

    @property
    def vocabulary_sha256(self) -> str:
        """Digest of the vocabulary that item indices belong to."""
        return self.head.settings.vocabulary_sha256


ServedRunner = OnnxRunner | ApproximateRunner


def served_runner(artefact: Path, manifest: Manifest, spec: RecommenderSpec) -> ServedRunner:
    """A runner of what an export serves on a CPU.

    Args:
        artefact: Folder of the export.
        manifest: Its manifest, with what the target serves.
        spec: Sizes of the model.

    Raises:
        ParityError, MissingExtraError: As the runners.
    """
    if served_head(manifest) is Head.APPROXIMATE:
        return ApproximateRunner(head_folder(artefact), spec)
    return OnnxRunner(model_path(artefact, Precision(manifest.metrics["precision"])), spec)
