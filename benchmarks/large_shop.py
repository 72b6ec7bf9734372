"""Artefacts of the generated shop at any size: a student that was trained on it, with the head that would be served."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.trained_shop import shop_dataset, train_on
from distill.models.encoders import Encoder, Recommender
from distill.models.item_table import ItemTable
from distill.models.students.mlp import MlpStudentConfig
from distilrec.config import ExportConfig
from distilrec.core import golden
from distilrec.core.manifest import Manifest, record_files, write_manifest
from distilrec.core.runner import Runner
from distilrec.core.specs import Head, Precision, RecommenderSpec
from distilrec.data import vocabulary as vocabularies
from distilrec.data.dataset import Dataset, HeldOut, held_out
from distilrec.data.synthetic import Shop
from distilrec.evaluation import ranking_record
from distilrec.evaluation.ranking_record import record_ranking
from export.artefact import head_folder, model_path
from export.graph.onnx import export_onnx
from export.graph.onnx_runner import OnnxRunner
from export.graph.precisions import Reference, answers, edge_and_user_requests
from export.heads.choose import HeadJob, HeadResult, make_head
from export.heads.made_of import HeadInput

_CACHE = Path("runs") / "generated-shops"
"""Shops and trained students, which take minutes to make."""

HISTORY_LENGTH, EXCLUDE_LENGTH, TOP_K = 20, 128, 100
_USERS, _GOLDEN_USERS = 3000, 59


@dataclass(frozen=True)
class LargeShop:
    """A trained student of the generated shop, with users to ask for."""

    spec: RecommenderSpec
    student: Encoder
    dataset: Dataset
    users: HeldOut
    """Validation users."""


def trained(items: int, users: int, events: int, steps: int) -> LargeShop:
    """The shop with a student that was trained for some steps; both are kept for the next time.

    Args:
        items: N.
        users: Users of the shop.
        events: Interactions of the shop.
        steps: Training steps.
    """
    spec, settings = RecommenderSpec(items, HISTORY_LENGTH, EXCLUDE_LENGTH, TOP_K), MlpStudentConfig(dropout=0.0)
    folder = _CACHE / f"{items}-items-{users}-users-{events}-events"
    folder.parent.mkdir(parents=True, exist_ok=True)
    dataset = shop_dataset(folder, Shop(users, items, events))
    kept = folder.with_name(f"{folder.name}-{steps}-steps.pt")
    if not kept.exists():
        torch.save(train_on(dataset, HISTORY_LENGTH, steps, settings=settings).state_dict(), kept)
    student = settings.build(ItemTable(items, settings.embedding_size), HISTORY_LENGTH).eval()
    student.load_state_dict(torch.load(kept))
    return LargeShop(spec, student, dataset, held_out(dataset, "validation", spec, _USERS))


def export_exhaustive(shop: LargeShop, folder: Path) -> OnnxRunner:
    """Write the graph with the exhaustive head in FP32, and proofs: an artefact that can be served."""
    vocabulary = vocabulary_of(shop.spec.item_count)
    path = model_path(folder, Precision.FP32)
    path.parent.mkdir(parents=True)
    metadata = {"vocabulary_sha256": vocabulary.sha256, "precision": Precision.FP32.value}
    export_onnx(Recommender(shop.student, shop.spec).eval(), path, metadata)
    runner = OnnxRunner(path, shop.spec)
    _finish(shop, runner, folder, folder, vocabulary, {})
    return runner


def export_approximate(
    shop: LargeShop,
    exhaustive: Runner,
    reference: Reference,
    folder: Path,
    *,
    former: Path | None = None,
    retired: tuple[int, ...] = (),
) -> HeadResult:
    """Write an artefact with the approximate head alone, by the code of the export.

    Args:
        shop: The student.
        exhaustive: Its exhaustive head.
        reference: Answers of that head to validation users.
        folder: Folder of the artefact.
        former: Folder of an artefact whose index is taken over.
        retired: Items that are never returned.
    """
    folder.mkdir(parents=True)
    vocabulary = vocabulary_of(shop.spec.item_count, retired)
    made_of = HeadInput(shop.student, shop.spec, vocabulary.sha256, None, retired)
    job = HeadJob(folder, made_of, reference, shop.dataset, ExportConfig(head="approximate"), seed=0)
    result = make_head(job, exhaustive, None if former is None else head_folder(former))
    from export.heads.runner import ApproximateRunner

    runner = ApproximateRunner(head_folder(folder), shop.spec)
    _finish(shop, runner, folder, head_folder(folder), vocabulary, {"head": Head.APPROXIMATE.value})
    return result


def reference_of(shop: LargeShop, exhaustive: Runner) -> Reference:
    """Answers of the exhaustive head in FP32 to the validation users."""
    return Reference(shop.spec, shop.users, answers(exhaustive, shop.users, "exhaustive"))


def vocabulary_of(items: int, retired: tuple[int, ...] = ()) -> vocabularies.Vocabulary:
    """Ids of the shop's items."""
    ids = tuple(f"item-{item}" for item in range(1, items + 1))
    return vocabularies.Vocabulary(ids, ids, frozenset(ids[item - 1] for item in retired))


def _finish(
    shop: LargeShop, runner: Runner, folder: Path, place: Path, vocabulary: vocabularies.Vocabulary, metrics: dict[str, str]
) -> None:
    """Write vocabulary, golden requests, record of the ranking and manifest."""
    vocabulary.save(folder / vocabularies.FILE_NAME)
    requests = edge_and_user_requests(shop.spec, shop.users, _GOLDEN_USERS, None)
    golden_requests = golden.Golden(requests.history, requests.exclude, *runner.recommend(*requests))
    some = shop.users.rows(np.arange(min(200, len(shop.users.users))))
    record = record_ranking(answers(runner, some, "ranking")[0], some, vocabulary.sha256)
    for where in {folder, place}:  # what serves one head may be asked for the proofs of the other
        golden_requests.save(where / golden.FILE_NAME)
        record.save(where / ranking_record.FILE_NAME)
    spec = shop.spec
    sizes = {"history_length": spec.history_length, "exclude_length": spec.exclude_length, "top_k": spec.top_k}
    known = {"precision": "fp32", "vocabulary_sha256": vocabulary.sha256, "item_count": spec.item_count}
    manifest = Manifest(
        stage="export",
        fingerprint="",
        settings=sizes,
        seed=0,
        inputs={},
        versions={},
        files=record_files(folder),
        metrics=known | metrics,
    )
    write_manifest(folder, manifest)
