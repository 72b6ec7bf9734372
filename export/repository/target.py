"""A serving target: how the student is served. Each is declared once, by its module in ``export/repository/targets``."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distilrec.config import ExportConfig
from distilrec.config.export import SERVING_TARGETS
from distilrec.core.manifest import Manifest
from export.repository.config import ServedModelFacts


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
    """

    render: Callable[[str, ServedModelFacts, ExportConfig, int], str]
    write: Callable[[Path, Manifest, Path], None]
    check: Callable[[Path, Path], None]
    front_door_runs_graph: bool


def serving_target(config: ExportConfig) -> ServingTarget:
    """The target that the settings name."""
    target: ServingTarget = SERVING_TARGETS[config.target]
    return target
