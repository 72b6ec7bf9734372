"""``import distilrec``: tables in, a finished run out, asked in this process. The quickstart's test serves one (test_docs.py)."""

import pandas as pd
import polars as pl
import pytest

import distilrec
from clients import InvalidRequest
from distilrec.core.errors import ConfigError, DataError, ManifestError
from distilrec.data.frames import write_frame

HISTORY = ["item-6", "item-12", "item-18"]


def test_folder_of_a_run_is_enough_and_answers_as_the_server_does(shop_run, shop_server, monkeypatch):
    monkeypatch.chdir(shop_run.parents[1])
    run = distilrec.load(shop_run)
    with distilrec.RecommenderClient(shop_server.url) as client:
        served = client.recommend(HISTORY, k=7, exclude=["item-0"])
        several = client.recommend_many([HISTORY, [], ["nothing"]], k=3)
    answer = run.recommend(HISTORY, k=7, exclude=["item-0"])
    assert answer.ids == served.ids
    assert answer.titles == served.titles
    assert answer.scores == pytest.approx(served.scores, abs=1e-5)
    assert [one.ids for one in run.recommend_many([HISTORY, [], ["nothing"]], k=3)] == [one.ids for one in several]
    with pytest.raises(InvalidRequest, match="expected 1 to 20"):
        run.recommend(HISTORY, k=21)
    with pytest.raises(InvalidRequest, match=r"export\.similar"):
        run.similar("item-6")
    assert "distilled student ships" in run.verdict
    assert "the student alone" in run.teachers
    assert run.evaluate().models["student, ONNX FP32"].quality.mean > 0


def test_folder_without_settings_and_folder_of_elsewhere_are_explained(shop_run, tmp_path, monkeypatch):
    with pytest.raises(ManifestError, match=r"no such file, expected the settings of a run"):
        distilrec.load(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ManifestError, match=r"made in another folder than this one"):
        distilrec.load(shop_run)


def test_tables_in_memory_become_a_run(shop_config, tmp_path, monkeypatch):
    interactions, items = pl.read_csv(shop_config.data.interactions), pl.read_csv(shop_config.data.items)
    monkeypatch.chdir(tmp_path)
    small = {"epochs": 1, "embedding_size": 8}
    settings = {
        "history_length": 12,
        "text": {"use": "off"},
        "teachers": {"sequence": {"kind": "sequence", **small, "heads": 2, "layers": 1}},
        "targets": {"top_n": 20},
        "student": {**small, "hidden_size": 16},
        "export": {"top_k": 20},
    }
    run = distilrec.fit(interactions, items, settings=settings)
    answer = run.recommend(HISTORY, k=5)
    assert len(answer) == 5
    frame = pd.DataFrame(interactions.to_dict(as_series=False))
    again = distilrec.fit(frame, items, settings=settings)
    assert again.artefact.samefile(run.artefact)
    assert again.recommend(HISTORY, k=5) == answer  # also the version: nothing was trained again
    with pytest.raises(ConfigError, match=r"student\.epochs"):
        distilrec.fit(interactions, settings={"student": {"epochs": 0}})


def test_pandas_and_arrow_tables_are_written_as_polars_writes_them(tmp_path):
    frame = pl.DataFrame({"item_id": ["a", None], "price": [1.5, 2.0], "count": [1, 2]})

    class Arrow:
        def __arrow_c_stream__(self, requested_schema=None):
            return frame.__arrow_c_stream__(requested_schema)

    tables = {"polars": frame, "lazy": frame.lazy(), "pandas": pd.DataFrame(frame.to_dict(as_series=False)), "arrow": Arrow()}
    for name, table in tables.items():
        write_frame(table, tmp_path / name)
        assert pl.read_parquet(tmp_path / name).equals(frame)
    times = pd.DataFrame({"timestamp": pd.to_datetime(["2024-05-01T10:00:00Z", "2024-05-02T10:00:00Z"])})
    write_frame(times, tmp_path / "times")
    assert pl.read_parquet(tmp_path / "times")["timestamp"].dt.epoch("s").to_list() == [1714557600, 1714644000]
    before = (tmp_path / "polars").stat().st_mtime_ns
    write_frame(frame, tmp_path / "polars")
    assert (tmp_path / "polars").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="found a list, expected a table of polars, pandas or Arrow"):
        write_frame([1, 2], tmp_path / "list")
