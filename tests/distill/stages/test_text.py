"""Titles are embedded, and ids that stand in for them are not."""

import logging

import pytest

from distill.stages import text
from distill.stages.text import load_embeddings
from distilrec.config import Config
from distilrec.data import stage as data_stage


@pytest.fixture
def untitled(tmp_path, tiny_bert) -> dict:
    rows = [f"u{user},i{place},{place}" for user in range(3) for place in range(5)]
    (tmp_path / "logs.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    data = {"interactions": tmp_path / "logs.csv", "k_core": 1, "split": "leave_one_out"}
    return {"name": "t", "data": data, "text": {"model": tiny_bert}}


@pytest.mark.parametrize(
    ("use", "embedded", "said"), [("auto", False, "nothing to embed"), ("on", True, "ids are embedded as titles")]
)
def test_ids_are_not_embedded_as_titles_unless_told(untitled, tmp_path, caplog, use, embedded, said):
    config = Config.model_validate(untitled | {"text": untitled["text"] | {"use": use}})
    data_stage.run(config, {}, tmp_path / "data")
    with caplog.at_level(logging.INFO):
        text.run(config, {"data": tmp_path / "data"}, tmp_path / "text")
    assert (load_embeddings(tmp_path / "text") is not None) == embedded
    assert said in caplog.text
