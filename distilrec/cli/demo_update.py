"""The second act of the demo: new events of MovieLens-100K go into a running server, block by block of time, under load."""

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from distilrec.config import Config, load_config
from distilrec.core.errors import ServerError
from distilrec.data.sources import fetch

if TYPE_CHECKING:
    from distilrec.serving.process.security import ControlSecret

NAME = "ml-100k-updates"
BLOCKS, TRAINED = 10, 8
"""Blocks of equal numbers of events in order of time, and how many of them the training has."""
_WATCH_S = 2.0
_HISTORIES, _PAUSE_S = 50, 0.01


def write_blocks(folder: Path) -> list[Path]:
    """Write the log up to the first update, and the block of each update after it."""
    log = pl.read_csv(fetch("ml-100k").interactions, infer_schema_length=None).sort("timestamp", maintain_order=True)
    ends = [len(log) * block // BLOCKS for block in range(TRAINED, BLOCKS + 1)]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.parquet" for number in range(len(ends))]
    for path, begin, end in zip(paths, [0, *ends[:-1]], ends, strict=True):
        log[begin:end].write_parquet(path)
    return paths


def demo_config(log: Path) -> Config:
    """A quick student of a closed-form teacher, which the updates then train further."""
    values = load_config("ml-100k").model_dump()
    teacher = values["teachers"]["ease"]
    training = {"epochs": 8, "patience": 2, "batch_size": 64}
    data = {"interactions": log, "items": fetch("ml-100k").items, "k_core": 5, "split": "leave_one_out"}
    values |= {"name": NAME, "data": data, "teachers": {"ease": teacher}, "text": {"use": "off"}}
    values["targets"]["weights"] = None
    values["student"] |= training
    values["qad"]["use"] = "off"
    values["update"] |= {"epochs": 6}
    values["export"] |= {"repository": Path("runs") / NAME / "triton_repo", "instances": 1}
    del values["undistilled"]  # so that it is trained as the student
    return Config.model_validate(values)


class _Load:
    """Asks for recommendations all the time, and counts the answers of each version and the failures."""

    def __init__(self, url: str, histories: Sequence[Sequence[str]]) -> None:
        self.answers: dict[int, int] = {}
        self.failures: list[str] = []
        self._url, self._histories = url, histories
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "_Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        from clients import RecommenderClient
        from clients.errors import ClientError

        with RecommenderClient(self._url) as client:
            for number in range(10**9):
                if self._stop.wait(_PAUSE_S):
                    return
                try:
                    version = int(client.recommend(self._histories[number % len(self._histories)], k=10).model_version)
                    self.answers[version] = self.answers.get(version, 0) + 1
                except ClientError as error:
                    self.failures.append(str(error))


def run_demo_update(say: Callable[[str], None]) -> None:
    """Train on the first blocks, serve, then update, judge and promote each later block while requests go on.

    Raises:
        ServerError: A request failed, or the server could not be started or stopped.
        DistilRecError: An error of a stage.
    """
    from distilrec.pipeline.stages import fill_repository, run_all
    from distilrec.serving.process.security import ControlSecret
    from distilrec.serving.process.server import TritonServer, free_ports

    began = time.monotonic()
    log, *blocks = write_blocks(Path("runs") / f"{NAME}-blocks")
    config = demo_config(log)
    run_all(config, serve=False)
    fill_repository(config)
    say(f"trained on {TRAINED} of {BLOCKS} blocks of time: {time.monotonic() - began:.0f} s")
    frame = pl.read_parquet(log).with_columns(pl.col("user_id", "item_id").cast(pl.String))
    users = frame.group_by("user_id", maintain_order=True).agg("item_id").head(_HISTORIES)["item_id"].to_list()
    secret = ControlSecret()
    with tempfile.TemporaryDirectory() as logs:
        server = TritonServer(config.export.repository, free_ports(), Path(logs) / "tritonserver.log", secret=secret)
        with server, _Load(server.url, users) as load:
            for block in blocks:
                _update_and_promote(config, block, server.url, secret, say)
            time.sleep(1)
        answered = ", ".join(f"version {version}: {count:,}" for version, count in sorted(load.answers.items()))
    say(f"\nrequests answered by {answered}; failed: {len(load.failures)}")
    say(f"the whole demo: {time.monotonic() - began:.0f} s")
    if load.failures:
        raise ServerError(f"found {len(load.failures)} failed requests (the first: {load.failures[0]}), expected none")


def _update_and_promote(config: Config, block: Path, url: str, secret: "ControlSecret", say: Callable[[str], None]) -> None:
    from distilrec.pipeline.update import update, verdict_on
    from distilrec.serving.rollout.live import Server
    from distilrec.serving.rollout.live_checks import Limits
    from distilrec.serving.rollout.promotion import PromotionError, promote, version_of

    artefact = update(config, block, report=say)
    say(f"verdict: {verdict_on(artefact)}")
    if (served := version_of(artefact, config.export.repository)) is not None:
        say(f"version {served} serves it already")
        return
    try:
        done = promote(
            artefact, config.export.repository, config.export, Server(url, secret), limits=Limits(watch_s=_WATCH_S), report=say
        )
        say(f"version {done.version} serves (before: {done.former})")
    except PromotionError as error:
        say(f"{error}")
