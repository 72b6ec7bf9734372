"""A serving target: how the student is served. Each is declared once, by its module in ``export/repository/targets``."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distilrec.config import ExportConfig
from distilrec.config.export import SERVING_TARGETS
from distilrec.core.errors import RepositoryError
from distilrec.core.manifest import Manifest
from distilrec.core.specs import MODEL_FILE, Head, Precision
from export.artefact import served_head
from export.repository.config import ServedModelFacts

logger = logging.getLogger(__name__)


def fits_everywhere(artefact: Path, manifest: Manifest, config: ExportConfig) -> None:
    """The files run on every machine that has the target: there is nothing to refuse."""


@dataclass(frozen=True)
class ServingTarget:
    """What a version of the student consists of, and how its configuration describes it.

    Args:
        render: ``render(name, facts, config, version)`` returns the config.pbtxt of a model behind the serving contract: its
            name in the repository, its sizes, vocabulary and precision, the settings, and the version that is served.
        write: ``write(artefact, manifest, folder)`` copies what the target runs from an export stage's folder into the
            version folder, which exists. It raises RepositoryError where the artefact lacks something.
        check: ``check(config_path, version_folder)`` raises RepositoryError with all faults where a configuration does not
            describe the model in the folder of the version that it serves.
        front_door_runs_graph: True where the front door runs the graph in its own process; False where it sends requests on to
            the student within the server.
        gpu_runner: Name of the measurements that say which precision the target serves (``manifest.metrics["gpu_precisions"]``);
            None for a target on the CPU, whose precision is that of the export's verdict.
        precisions: Precisions that the target can serve.
        heads: Heads that the target can serve.
        check_fit: ``check_fit(artefact, manifest, config)`` raises RepositoryError where what the target runs would be refused
            by the server that loads it. It is called before anything is written.
    """

    render: Callable[[str, ServedModelFacts, ExportConfig, int], str]
    write: Callable[[Path, Manifest, Path], None]
    check: Callable[[Path, Path], None]
    front_door_runs_graph: bool
    gpu_runner: str | None = None
    precisions: tuple[Precision, ...] = tuple(Precision)
    heads: tuple[Head, ...] = (Head.EXHAUSTIVE,)
    check_fit: Callable[[Path, Manifest, ExportConfig], None] = fits_everywhere


def serving_target(config: ExportConfig) -> ServingTarget:
    """The target that the settings name."""
    target: ServingTarget = SERVING_TARGETS[config.target]
    return target


UNMEASURED = Precision.FP16
"""Precision that a target on a GPU serves until it is measured there. It has half the bytes of FP32, and nearly its ranking."""


def manifest_for_target(manifest: Manifest, config: ExportConfig) -> Manifest:
    """The manifest of an export with the precision that the target serves in the place of the CPU's.

    A precision that the settings of the export name is served everywhere. Otherwise the verdict belongs to the target: on a GPU it
    is the one that was measured there, else ``UNMEASURED``, else, where the export has no such graph, FP32.

    Raises:
        RepositoryError: The target cannot serve the precision.
    """
    target = serving_target(config)
    metrics = manifest.metrics
    precision = Precision(metrics["precision"])
    if target.gpu_runner is not None and manifest.settings.get("precision", "auto") == "auto":
        precision = _measured(manifest, target.gpu_runner) or _default(manifest, config.target)
    if precision not in target.precisions:
        raise RepositoryError(
            f"found precision {precision.value} for the target {config.target}, expected one of"
            f" {', '.join(one.value for one in target.precisions)}: this target has no faster way to run it."
            " Set export.precision to one of these, or take another target"
        )
    head = _head(manifest, config.target, target)
    kept = {name: value for name, value in metrics.items() if name != "head" or head is not Head.EXHAUSTIVE}
    return manifest.model_copy(update={"metrics": type(metrics)(kept | {"precision": precision.value})})


def _head(manifest: Manifest, name: str, target: ServingTarget) -> Head:
    """The head of the export's verdict, where the target can serve it, else the exhaustive one.

    Raises:
        RepositoryError: The settings of the export name a head that the target cannot serve.
    """
    head = served_head(manifest)
    if head in target.heads:
        return head
    if manifest.settings.get("head", "auto") != "auto":
        raise RepositoryError(
            f"found the {head.value} head for the target {name}, expected the exhaustive one: only the target python has"
            " others. Set export.head to auto or exhaustive, or take that target"
        )
    logger.warning("target %s: the exhaustive head is served; only the target python serves the %s one", name, head.value)
    return Head.EXHAUSTIVE


def _measured(manifest: Manifest, runner: str) -> Precision | None:
    """The verdict of measurements on a GPU; None where there are none."""
    measured = manifest.metrics.get("gpu_precisions", {}).get(runner)
    return None if measured is None else Precision(measured)


def _default(manifest: Manifest, target: str) -> Precision:
    """The precision of a target that was not measured, with a warning that says so."""
    has_graph = f"{UNMEASURED.value}/{MODEL_FILE}" in manifest.files
    precision = UNMEASURED if has_graph else Precision.FP32
    logger.warning(
        "target %s: unmeasured, so the default is served, %s. Measure it on the GPU that serves: distilrec export --target %s",
        target,
        precision.value,
        target,
    )
    return precision
