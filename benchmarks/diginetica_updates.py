"""Weekly updates on DIGINETICA by the protocol of ADER (Mi et al. 2020, arXiv:2007.12000): train until a week, test on the next.

``python -m benchmarks.diginetica_updates DATA --out results.json`` reads ``interactions.csv.gz`` in the folder DATA, with user_id
(a session), item_id (1..N, in the order of the first appearance) and timestamp (period * 10^6 + order). Period 0 is all before the
last 16 weeks.

- ``update``: the student of the week before goes on with the week's sessions, a replay of exemplars, and itself as their teacher.
- ``finetune``: it goes on with the week's sessions alone.
- ``joint``: a new student is trained on all sessions so far.

Every prefix of a session of the next week asks for its next item among all items seen so far; items never seen are left out.
"""

import argparse
import json
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from distill.data.replay import former_share, update_windows
from distill.data.soft_targets import SoftTargets
from distill.models.catalogue import Catalogue
from distill.models.encoders import Encoder
from distill.models.growth import TABLE, grown_table, neighbour_rows, trainable_student
from distill.models.item_table import popularity_of_counts
from distill.training.fit import fit
from distill.training.update import UpdateMaterial, fit_update, replay_settings, write_replay_targets
from distilrec.config import StudentConfig, TargetsConfig
from distilrec.core.files import write_text
from distilrec.core.specs import RecommenderSpec
from distilrec.data.dataset import Dataset
from distilrec.data.ragged import Ragged
from distilrec.data.update_state import Exemplars, choose_exemplars

logger = logging.getLogger(__name__)

MODES = ("update", "finetune", "joint")
PERIOD = 1_000_000
HISTORY_LENGTH, SEED, STOPPING_USERS, KS = 50, 0, 1000, (10, 20)
PUBLISHED = {
    "finetune": {"recall@20": 47.28, "mrr@20": 16.01},
    "joint": {"recall@20": 50.03, "mrr@20": 17.31},
    "ader": {"recall@20": 50.21, "mrr@20": 17.32},
}
"""Means over 16 weeks in percent, from the paper's poster."""
NONE = Exemplars(Ragged.of([]), np.zeros(0, np.int64), np.zeros(0, np.int64), 1.0)


@dataclass(frozen=True)
class Protocol:
    """What the command line sets."""

    weeks: int
    exemplars: int
    former_weight: float
    settings: StudentConfig
    update_settings: StudentConfig


def read_periods(folder: Path) -> list[Ragged]:
    """The sessions of each period; a session that straddles two is one in each."""
    frame = pl.read_csv(folder / "interactions.csv.gz").sort("timestamp", maintain_order=True)
    frame = frame.with_columns((pl.col("timestamp") // PERIOD).cast(pl.Int64).alias("period"))
    parts = frame.sort("period", "user_id", maintain_order=True).partition_by("period", maintain_order=True)
    return [_sessions(part) for part in parts]


def _sessions(frame: pl.DataFrame) -> Ragged:
    lengths = frame.group_by("user_id", maintain_order=True).len()["len"].to_numpy()
    return Ragged(frame["item_id"].to_numpy().astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def dataset_of(sessions: Ragged, item_count: int) -> Dataset:
    """Sessions to train on; the last item of some is held out for early stopping."""
    ends = sessions.lengths
    held_out = np.random.default_rng(SEED).permutation(len(sessions))[: min(STOPPING_USERS, len(sessions) // 10)]
    starts = ends.copy()
    starts[held_out] -= 1
    return Dataset(sessions.items, sessions.offsets, starts, ends, item_count)


def spec_of(item_count: int) -> RecommenderSpec:
    return RecommenderSpec(item_count, HISTORY_LENGTH, 128, 10, repeats=True)


def train(dataset: Dataset, settings: StudentConfig) -> Encoder:
    """A student that begins from nothing."""
    lightning.seed_everything(SEED, verbose=False)
    catalogue = Catalogue(dataset.item_count, popularity=popularity_of_counts(torch.from_numpy(dataset.training_counts())))
    encoder: Encoder = settings.build(catalogue.item_table(settings.embedding_size, settings.rank), HISTORY_LENGTH)
    with tempfile.TemporaryDirectory() as scratch:
        fit(encoder, dataset, spec_of(dataset.item_count), settings, seed=SEED, scratch=Path(scratch))
    return folded(encoder)


def folded(encoder: Encoder) -> Encoder:
    encoder.items.fold()
    return encoder.cpu().eval()


def go_on(former: Encoder, dataset: Dataset, counts: NDArray[np.int64], exemplars: Exemplars, protocol: Protocol) -> Encoder:
    """The next week's student, from that of the week before; with exemplars, the former one teaches on their replay."""
    state, settings = former.state_dict(), protocol.update_settings
    rows = neighbour_rows(state[TABLE], former.item_count, dataset)
    start = state | {TABLE: grown_table(state[TABLE], former.item_count, rows)}
    lightning.seed_everything(SEED, verbose=False)
    popularity = popularity_of_counts(torch.from_numpy(counts))
    student = trainable_student(settings, HISTORY_LENGTH, start, dataset.item_count, popularity)
    windows = update_windows(dataset, np.zeros(dataset.user_count, np.int64), exemplars, HISTORY_LENGTH)
    share = former_share(former.item_count, dataset.item_count, windows.replayed, windows.new)
    with tempfile.TemporaryDirectory() as folder:
        targets = None
        if len(exemplars.update) and protocol.former_weight:
            kept = replay_settings(TargetsConfig())
            write_replay_targets(former, windows, Path(folder), kept)
            targets = SoftTargets(Path(folder), kept.temperatures)
        material = UpdateMaterial(dataset, windows, counts, targets, protocol.former_weight * share)
        fit_update(student, material, spec_of(dataset.item_count), settings, seed=SEED, scratch=Path(folder) / "scratch")
    return folded(student)


@torch.inference_mode()
def judge(encoder: Encoder, sessions: Ragged) -> dict[str, float]:
    """Recall@k and MRR@k in percent over all prefixes of the sessions, ranked among all items of the encoder."""
    known = [items[items <= encoder.item_count] for items in (sessions[row] for row in range(len(sessions)))]
    known = sorted((items[-HISTORY_LENGTH - 1 :] for items in known if len(items) > 1), key=len)
    ranks = []
    with encoder.items.kept():
        for start in range(0, len(known), 64):
            batch = known[start : start + 64]
            history = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(items[:-1]).long() for items in batch], batch_first=True)
            scores = encoder.score_prefixes(history, history > 0)
            truth = torch.cat([torch.from_numpy(items[1:]).long() for items in batch])
            own = scores.gather(1, truth[:, None] - 1)
            ranks.append(1 + (scores > own).sum(dim=1))
    all_ranks = torch.cat(ranks).double()
    found = {f"recall@{k}": 100 * float((all_ranks <= k).double().mean()) for k in KS}
    return found | {f"mrr@{k}": 100 * float(torch.where(all_ranks <= k, 1 / all_ranks, 0.0).mean()) for k in KS}


def counts_of(sessions: Ragged, item_count: int) -> NDArray[np.int64]:
    return np.bincount(sessions.items, minlength=item_count + 1)


def exemplars_of(sessions: Ragged, period: int) -> Exemplars:
    """All sessions of a period, as candidates."""
    rows = Ragged.of([sessions[row][-HISTORY_LENGTH - 1 :] for row in range(len(sessions))])
    return Exemplars(rows, np.ones(len(rows), np.int64), np.full(len(rows), period, np.int64), 1.0)


def run_mode(mode: str, periods: list[Ragged], protocol: Protocol, first: Encoder, first_s: float) -> list[dict[str, Any]]:
    """Results of each week; the first week's student is the same in all modes."""
    encoder, seconds, exemplars, joint = first, first_s, NONE, periods[0]
    results = []
    for week in range(1, protocol.weeks + 1):
        if week > 1:
            joint = joint.then(periods[week - 1])
            item_count = int(joint.items.max())
            began = time.monotonic()
            if mode == "joint":
                encoder = train(dataset_of(joint, item_count), protocol.settings)
            else:
                if mode == "update":
                    exemplars = choose_exemplars(
                        exemplars, exemplars_of(periods[week - 2], week - 2), protocol.exemplars, SEED + week
                    )
                dataset = dataset_of(periods[week - 1], item_count)
                encoder = go_on(encoder, dataset, counts_of(joint, item_count), exemplars, protocol)
            seconds = time.monotonic() - began
        found = {"week": week, "items": encoder.item_count, "train_s": round(seconds, 1)} | judge(encoder, periods[week])
        logger.info("%s %s", mode, found)
        results.append(found)
    return results


def means(results: list[dict[str, Any]]) -> dict[str, float]:
    """Means over weeks, and the whole time of training after the first week."""
    measured = [f"{name}@{k}" for name in ("recall", "mrr") for k in KS]
    found = {name: round(float(np.mean([one[name] for one in results])), 2) for name in measured}
    return found | {"train_s_after_first": round(sum(one["train_s"] for one in results[1:]), 1)}


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with interactions.csv.gz")
    parser.add_argument("--out", type=Path, required=True, help="file of the results, written after each mode")
    parser.add_argument("--weeks", type=int, default=16)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--exemplars", type=int, default=10_000, help="sequences that are replayed")
    parser.add_argument("--former-weight", type=float, default=1.0, help="update.former_weight")
    parser.add_argument("--student", type=json.loads, default={}, help="section student as JSON")
    parser.add_argument("--update", type=json.loads, default={}, help="settings of the updates' training as JSON")
    given = parser.parse_args()
    student = {
        "kind": "gru",
        "embedding_size": 128,
        "hidden_size": 128,
        "dropout": 0.3,
        "epochs": 20,
        "patience": 3,
    } | given.student
    settings = StudentConfig.of_kind(student.pop("kind")).model_copy(update=student)
    update = {"epochs": 10, "patience": 2} | given.update
    protocol = Protocol(given.weeks, given.exemplars, given.former_weight, settings, settings.model_copy(update=update))
    periods = read_periods(given.data)
    began = time.monotonic()
    first = train(dataset_of(periods[0], int(periods[0].items.max())), settings)
    first_s, found = time.monotonic() - began, {}
    for mode in given.modes:
        found[mode] = run_mode(mode, periods, protocol, first, first_s)
        told = {"means": {name: means(one) for name, one in found.items()}, "published": PUBLISHED, "weeks": found}
        told |= {"student": settings.model_dump(mode="json"), "update": update, "exemplars": given.exemplars}
        write_text(given.out, json.dumps(told | {"former_weight": given.former_weight}, indent=2) + "\n")
        logger.info("%s: %s", mode, told["means"])


if __name__ == "__main__":
    main()
