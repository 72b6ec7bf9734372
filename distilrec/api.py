"""The Python API: what ``import distilrec`` offers. Each call does what the command of its name does."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from clients import Recommendations, RecommenderClient
from clients.codec import Filter, Repeats
from distilrec.config import Config, load_config, parse_settings, with_export_settings, with_seed
from distilrec.core.errors import ManifestError, MissingExtraError
from distilrec.data.dataset import Split
from distilrec.evaluation.report import JSON_FILE
from distilrec.local import LocalRecommender
from distilrec.pipeline.evaluate import evaluate
from distilrec.pipeline.finished import served_artefact, student_verdict, teachers_verdict
from distilrec.pipeline.folders import STUDENT_VERDICT, run_dir
from distilrec.pipeline.settings import load_settings
from distilrec.pipeline.stages import fill_repository, run_all, run_stage
from distilrec.report.evaluation_file import EvaluationFile, read_evaluation_file


class Run:
    """A finished run: a teacher, the student that learned from it, and what was exported.

    Paths are relative to the folder in which the program runs, as on the command line.

    Args:
        config: Its settings.

    Raises:
        ManifestError: The run is not finished.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.folder = run_dir(config)
        served_artefact(config)

    def __repr__(self) -> str:
        return f"<distilrec run {self.config.name!r}: {self.verdict}>"

    @property
    def verdict(self) -> str:
        """Which student ships, and why."""
        return str(student_verdict(self.config)["reason"])

    @property
    def teachers(self) -> str:
        """What each teacher is worth beside the student without a teacher."""
        return str(teachers_verdict(self.config)["reason"])

    @property
    def artefact(self) -> Path:
        """Folder of the export that is served."""
        return served_artefact(self.config)

    def evaluate(self, split: Split = "test", *, seeds: Sequence[int] = ()) -> EvaluationFile:
        """Rank the whole catalogue for held-out users, by every model from teacher to INT8; see ``distilrec evaluate``.

        Args:
            split: "validation" for decisions, "test" for reports.
            seeds: Seeds of runs that are averaged; the default is this run alone.

        Raises:
            DataError: No user of the split has anything new.
        """
        return read_evaluation_file(evaluate(self.config, split, seeds) / JSON_FILE)

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
        """Recommend in this process, on ONNX Runtime, as the server would; see ``RecommenderClient.recommend``."""
        return self._local.recommend(history, k, exclude=exclude, filter=filter, allow=allow, repeats=repeats)

    def recommend_many(self, histories: Sequence[Iterable[str]], k: int = 10) -> list[Recommendations]:
        """Recommend ``k`` items after each history, in this process."""
        return self._local.recommend_many(histories, k)

    def similar(self, item_id: str, k: int = 10) -> Recommendations:
        """Items like this one, in this process; the model needs ``export.similar``."""
        return self._local.similar(item_id, k)

    def export(self, **settings: Any) -> Path:
        """Export the student that ships again and fill the Triton repository; see ``distilrec export``.

        Args:
            settings: New values of section ``export``, such as ``target="onnxruntime"``.

        Returns:
            Folder of the artefact.

        Raises:
            ConfigError: A setting cannot be used.
        """
        self.config = with_export_settings(self.config, settings)
        for stage in (STUDENT_VERDICT, "export"):
            run_stage(self.config, stage)
        self._forget_model()
        return fill_repository(self.config)

    def refresh(self, items: Any, *, force: bool = False) -> Path:
        """Take over a catalogue that has changed, without training, and fill the repository; see ``distilrec refresh``.

        Args:
            items: Table or file with a row for each item that may be recommended.
            force: Whether most items may be retired.

        Returns:
            Folder of the artefact.

        Raises:
            DataError: The list cannot be read, or is of another catalogue.
        """
        from distilrec.pipeline.refresh import refresh  # here, because it loads polars, which is optional

        refresh(self.config, _as_file(items, self.folder / "input" / "refreshed-items.parquet"), force=force)
        self._forget_model()
        return fill_repository(self.config)

    def update(self, interactions: Any) -> Path:
        """Learn from new events, and fill the repository where the verdict takes the update; see ``distilrec update``.

        Args:
            interactions: Table or file of the events since the training, or since the update before.

        Returns:
            Folder of the update's artefact, also where the verdict refuses it (``artefact`` is what is served).

        Raises:
            DataError: The events cannot be used.
            ConfigError: The settings are those of another student than the run's.
        """
        from distilrec.pipeline.update import update  # here, because it loads polars, which is optional

        made = update(self.config, _as_file(interactions, self.folder / "input" / "events.parquet"))
        self._forget_model()
        if made == self.artefact:
            fill_repository(self.config)
        return made

    @contextmanager
    def serve(self) -> Iterator[RecommenderClient]:
        """Serve the student by a real tritonserver on free ports of this machine until the block ends.

        The block gets a client. For a service that stays, use ``distilrec serve``, which has a watchdog, TLS and a secret.

        Raises:
            ServerError: The server cannot start.
            MissingExtraError: There is no tritonserver.
        """
        # Here, because a program that serves nothing need not load it.
        from distilrec.serving.process.environment import free_ports
        from distilrec.serving.process.server import TritonServer

        fill_repository(self.config)
        log = self.folder / "tritonserver.log"
        with (
            TritonServer(self.config.export.repository, free_ports(), log) as server,
            RecommenderClient(server.url) as client,
        ):
            client.wait_until_ready()
            yield client

    @cached_property
    def _local(self) -> LocalRecommender:
        return LocalRecommender(self.artefact)

    def _forget_model(self) -> None:
        self.__dict__.pop("_local", None)


def run(preset: str | Path, *, seed: int | None = None, force: bool = False) -> Run:
    """Run all stages of a preset or a TOML file, from logs to a filled Triton repository; see ``distilrec run``.

    Args:
        preset: Name of a preset, or path of a TOML file.
        seed: Another seed; makes a run of its own, which is not served.
        force: Whether stages run again that are unchanged.

    Raises:
        ConfigError: Wrong settings (all are listed).
        DataError: The data cannot be read.
    """
    config = load_config(str(preset))
    seeded = config if seed is None else with_seed(config, seed)
    run_all(seeded, serve=seeded == config, force=force)
    return Run(seeded)


def fit(interactions: Any, items: Any = None, *, name: str = "shop", settings: Mapping[str, Any] | None = None) -> Run:
    """Learn from interactions in memory, and return the finished run. Called again with the same content, it has nothing to do.

    >>> run = distilrec.fit(interactions, items)
    >>> run.recommend(["50", "181"], k=5)

    Args:
        interactions: Table of polars, pandas or Arrow, or the path of a file, with the columns user_id, item_id and timestamp.
        items: Likewise with the columns item_id and title; None where nothing is known of the items.
        name: Name of the run's folder below ``runs/``.
        settings: Further settings, as in a TOML file: ``{"history_length": 20, "student": {"epochs": 5}}``.

    Raises:
        ConfigError: Wrong settings (all are listed).
        DataError: The tables cannot be read.
    """
    given, folder = dict(settings or {}), Path("runs") / name
    data = {"interactions": str(_as_file(interactions, folder / "input" / "interactions.parquet"))}
    if items is not None:
        data["items"] = str(_as_file(items, folder / "input" / "items.parquet"))
    given["data"] = {**given.get("data", {}), **data}
    given["export"] = {"repository": str(folder / "triton_repo"), **given.get("export", {})}
    config = parse_settings({"name": name, **given}, where="fit")
    run_all(config)
    return Run(config)


def load(path: str | Path) -> Run:
    """A run that is finished already.

    Args:
        path: Folder of the run (``runs/shop``), or its TOML file or preset.

    Raises:
        ManifestError: There is no finished run.
        ConfigError: Wrong settings.
    """
    folder = Path(path)
    if not folder.is_dir():
        return Run(load_config(str(path)))
    config = load_settings(folder)
    if run_dir(config).resolve() != folder.resolve():
        raise ManifestError(
            f"{folder}: found a run that was made in another folder than this one ({Path.cwd()}), expected {run_dir(config)}: its"
            " paths are relative. Change to the folder above its runs/."
        )
    return Run(config)


def _as_file(table: Any, path: Path) -> Path:
    """The path of a file, or that of the file that a table was written into."""
    if isinstance(table, str | Path):
        return Path(table)
    try:
        from distilrec.data.frames import write_frame  # polars is optional
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"The package {error.name!r}", "train") from error
    write_frame(table, path)
    return path
