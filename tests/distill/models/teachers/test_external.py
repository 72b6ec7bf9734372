"""Lists of other people's models as a teacher: which prefixes they are for, and what is said where there are none."""

import math
import shutil

import numpy as np
import polars as pl
import pytest
import torch

from distill.data.soft_targets import load_soft_targets
from distill.models.teachers.external import ExternalTeacherConfig
from distilrec.config import Config
from distilrec.core.errors import DataError, DataWarning
from distilrec.core.manifest import read_manifest
from distilrec.data import stage as data_stage
from distilrec.data import user_ids
from distilrec.data.dataset import Dataset
from distilrec.data.vocabulary import FILE_NAME, Vocabulary
from distilrec.pipeline.stages import run_stage

N, L = 6, 3
VOCABULARY = Vocabulary(tuple("abcdef"), tuple("ABCDEF"))
# u: a b c d e | f | a   v: b b | c | d   w: f | a | b
DATASET = Dataset(
    np.array([1, 2, 3, 4, 5, 6, 1, 2, 2, 3, 4, 6, 1, 2], np.int32),
    np.array([0, 7, 11, 14]),
    np.array([5, 2, 1]),
    np.array([6, 3, 2]),
    N,
)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    DATASET.save(folder)
    VOCABULARY.save(folder / FILE_NAME)
    user_ids.save(("u", "v", "w"), folder)
    return folder


def read(data, settings=(("temperature", 1.0), ("outside", 0.2)), **columns):
    path = data.parent / "lists.parquet"
    pl.DataFrame(columns).write_parquet(path)
    section = ExternalTeacherConfig(lists=path, **dict(settings))
    return section.read(data, L)


def prefixes(teacher):
    return dict(zip(teacher.state["prefixes"].tolist(), teacher.state["lists"].tolist(), strict=True))


def test_user_and_position_name_a_prefix(data):
    with pytest.warns(DataWarning, match=r"of 8 lists .*: 1 unknown items, 1 lists of unknown users, 2 lists for no prefix, 1 rep"):
        teacher, facts = read(
            data,
            user_id=["u", "u", "v", "x", "w", "u", "w", "v"],
            position=[1, 5, 2, 1, 3, 1, 2, 9],
            item_ids=[["b"], ["c", "zz"], ["d"], ["a"], ["a"], ["c"], ["a"], ["a"]],
        )
    assert prefixes(teacher) == {0: 0, 4: 1, 8: 2, 12: 6}
    assert facts["training_prefixes_with_a_list"] == 3
    assert facts["lists_without_a_known_item"] == 0
    assert len(facts["warnings"]) == 1


def test_without_position_a_list_is_for_all_that_is_for_training(data):
    teacher, facts = read(data, user_id=["w", "u"], item_ids=[["b"], ["c"]])
    assert prefixes(teacher) == {4: 1, 11: 0}
    assert facts["warnings"] == []


def test_a_history_names_each_prefix_that_ends_with_its_newest_items(data):
    histories = [["a", "zz", "b"], ["x", "c", "d", "e"], ["b"], ["f", "a"], ["c"], []]
    with pytest.warns(DataWarning, match="2 unknown items of histories, 2 lists for no prefix"):
        teacher, _ = read(data, history=histories, item_ids=[["d"]] * 6)
    # A history of three items or more counts by its newest three.
    assert prefixes(teacher) == {1: 0, 4: 1, 7: 2, 12: 3}


def test_lists_become_probabilities_over_the_catalogue(data):
    teacher, _ = read(data, user_id=["u", "v"], item_ids=[["f", "b"], ["a"]], scores=[[2.0, 1.0], [5.0]])
    found = teacher.scores_of(torch.tensor([1, 0])).exp()
    torch.testing.assert_close(found[0], torch.tensor([0.8, *[0.04] * 5]))
    best = 0.8 * math.e / (math.e + 1)
    torch.testing.assert_close(found[1], torch.tensor([0.05, 0.8 - best, 0.05, 0.05, 0.05, best]))
    assert (teacher.longest, teacher.parameter_count()) == (2, 3)


def test_whole_histories_are_answered_and_others_are_refused(data):
    teacher, _ = read(data, user_id=["u", "v", "v"], position=[5, 2, 1], item_ids=[["f"], ["a"], ["c"]])
    scores = teacher.score_last(torch.tensor([[3, 4, 5], [0, 2, 2]]))
    assert scores.shape == (2, 8)
    assert scores.argmax(dim=1).tolist() == [0, 0]  # log-probabilities; 0 where there is no item
    assert scores[:, 1 : N + 1].argmax(dim=1).tolist() == [5, 0]
    valid = torch.tensor([[False, True]])
    torch.testing.assert_close(teacher.score_prefixes(torch.tensor([[2, 2]]), valid), scores[1:, 1 : N + 1])
    with pytest.raises(DataError, match=r"found 1 of 1 histories without a list"):
        teacher.score_last(torch.tensor([[0, 0, 2]]))


def test_saved_lists_come_back(data, tmp_path):
    section = ExternalTeacherConfig(lists=tmp_path)
    teacher, _ = read(data, user_id=["u", "v"], item_ids=[["f", "b"], ["a"]])
    section.save(teacher, tmp_path)
    loaded = section.load(tmp_path, N, L)
    torch.testing.assert_close(loaded.scores_of(torch.tensor([0, 1])), teacher.scores_of(torch.tensor([0, 1])))
    histories = np.array([[3, 4, 5], [0, 2, 2], [0, 0, 2]], np.int32)
    assert section.unlisted(tmp_path, histories).sum() == 1


def test_few_held_back_items_leave_the_calibration_to_the_training(data):
    columns = {"user_id": ["u", "u", "u", "v"], "position": [1, 2, 3, 2], "item_ids": [["b", "f"], ["c"], ["a"], ["c"]]}
    _, facts = read(data, (), **columns)
    # Held back is only v's c; of the training, u's next items are b, c and d.
    assert facts["calibrated_on"] == "training items"
    assert (facts["calibration_lists"], facts["calibration_hits"]) == (3, 2)
    assert facts["outside"] == pytest.approx(2 / 5)
    with pytest.raises(DataError, match="no list of the external teacher with a known next item"):
        read(data, (), user_id=["u"], item_ids=[["b"]])


def test_lists_of_other_data_are_refused(data):
    with pytest.raises(DataError, match=r"found 2 lists, of which none is for a prefix .*1 lists of unknown users"):
        read(data, user_id=["nobody", "u"], position=[1, 6], item_ids=[["a"], ["b"]])
    with pytest.raises(DataError, match=r"of which none .* holds a known item \(2 unknown items"):
        read(data, user_id=["u", "v"], item_ids=[["1"], ["2"]])


def with_lists(shop_config: Config, path, name, teachers=None, **changes) -> Config:
    teachers = {"lists": {"kind": "external", "lists": path}} | (teachers or {})
    values = {"name": name, "teachers": teachers, "text": {"use": "off"}, "qad": {"use": "off"}}
    return Config.model_validate(shop_config.model_dump() | values | changes)


def test_perturbed_copies_need_a_teacher_that_is_a_model(shop_config, tmp_path):
    copies = {"targets": {"perturbed_copies": 1}}
    with pytest.raises(ValueError, match=r"targets\.perturbed_copies: found 1, expected 0 where student learns only from external"):
        with_lists(shop_config, tmp_path, "x", **copies)
    with_lists(shop_config, tmp_path, "x", {"linear": {"kind": "ease"}}, **copies)


def genre_lists(interactions, path, *more):
    """Items of the genre that most items of a prefix have, as a rule would write them; none for whole histories of test users."""
    frame = pl.read_csv(interactions).sort("timestamp", maintain_order=True)
    rows = []
    for (user,), group in frame.group_by(["user_id"], maintain_order=True):
        genres = [int(item.removeprefix("item-")) % 6 for item in group["item_id"]]
        for position in range(1, len(genres) - 1):
            genre = max(set(genres[:position]), key=genres[:position].count)
            items = [f"item-{item}" for item in range(90) if item % 6 == genre]
            rows.append({"user_id": user, "position": position, "item_ids": [*items, *more]})
    pl.DataFrame(rows).write_parquet(path)


@pytest.mark.pipeline
def test_lists_are_calibrated_written_mixed_and_learned(shop_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "lists.parquet"
    genre_lists(shop_config.data.interactions, path, "item-none")
    targets = {"top_n": 20, "perturbed_copies": 1, "weights": {"lists": 1.0, "linear": 1.0}}
    config = with_lists(shop_config, path, "mixed", {"linear": {"kind": "ease"}}, targets=targets)
    for stage in ("data", "text"):
        run_stage(config, stage)
    with pytest.warns(DataWarning, match="unknown items"):
        manifest = run_stage(config, "teacher-lists")
    facts = manifest.metrics
    assert facts["calibrated_on"] == "held-back items"
    assert facts["calibration_hits"] / facts["calibration_lists"] == pytest.approx(1 - facts["outside"], abs=0.01)
    assert facts["validation_ndcg@10"] > 0.1  # a random list has about 0.05
    assert set(manifest.settings) == {"kind", "temperature", "outside", "lists_sha256", "history_length"}

    written = run_stage(config, "targets-lists")
    dataset, _ = data_stage.load(tmp_path / "runs/mixed/data")
    cache = load_soft_targets(tmp_path / "runs/mixed/targets-lists")
    assert cache.items.shape[1] == 15  # as the longest list
    assert written.metrics["prefixes"] == int(dataset.validation_start.sum()) == facts["training_prefixes_with_a_list"]
    scored = np.flatnonzero(cache.items[:, 0])
    assert (scored < len(dataset.items)).all()  # no list is for a perturbed copy
    soft = cache.read(torch.from_numpy(scored[:50]))
    inside = torch.cat([soft.logits, soft.rest[:, None]], dim=1).softmax(dim=1)[:, :-1].sum(dim=1)
    torch.testing.assert_close(inside, torch.full_like(inside, 1 - facts["outside"]), atol=2e-3, rtol=0)

    for stage in ("teacher-linear", "targets-linear"):
        run_stage(config, stage)
    mixed = run_stage(config, "targets-lists+linear")
    assert mixed.metrics["prefixes"] == read_manifest(tmp_path / "runs/mixed/targets-linear").metrics["prefixes"]
    assert run_stage(config, "student").metrics["validation_ndcg@10"] > 0.1
    run_stage(config, "student-undistilled")
    judged = run_stage(config, "teachers-verdict").metrics
    assert judged["ndcg@10"]["lists"] == pytest.approx(facts["validation_ndcg@10"], abs=0.02)  # ties


def test_a_teacher_that_cannot_be_evaluated_is_said_in_a_sentence(shop_config, shop_run, tmp_path, monkeypatch):
    from distilrec.pipeline.evaluate import evaluate
    from distilrec.report.content import MeasurementFiles
    from distilrec.report.write import write_report

    monkeypatch.chdir(tmp_path)
    shutil.copytree(shop_run, tmp_path / "runs" / "shop")
    path = tmp_path / "lists.parquet"
    genre_lists(shop_config.data.interactions, path)
    config = with_lists(shop_config, path, "shop")
    run_stage(config, "teacher-lists")
    text = (evaluate(config, "test") / "evaluation.md").read_text()
    assert "The teacher is not evaluated: lists has no list for the history of 240 of 240 held-out users" in text
    assert "student, distilled" in text
    assert "The teacher is not evaluated: lists has no list" in write_report(config, MeasurementFiles()).read_text()
    validation = (evaluate(config, "validation") / "evaluation.md").read_text()
    assert "not evaluated" not in validation
    assert "teacher (PyTorch)" in validation
