"""The example of an external teacher: its settings, and its script where the library is installed."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import polars as pl
import pytest

from distilrec.config import load_config
from distilrec.data import stage as data_stage
from distilrec.data.recommendation_lists import read_lists

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_settings_name_what_the_script_writes():
    config = load_config(str(EXAMPLES / "implicit.toml"))
    assert config.teachers["als"].kind == "external"
    assert config.teachers["als"].lists.resolve() == (EXAMPLES.parent / "runs/implicit/als.parquet").resolve()


def test_the_script_writes_a_list_for_each_prefix(shop_config, tmp_path):
    pytest.importorskip("implicit")
    spec = spec_from_file_location("implicit_lists", EXAMPLES / "implicit_lists.py")
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    data_stage.run(shop_config, {}, tmp_path / "data")
    script.main(tmp_path / "data", tmp_path / "als.parquet")
    dataset, vocabulary = data_stage.load(tmp_path / "data")
    lists = read_lists(tmp_path / "als.parquet", vocabulary)
    assert len(lists) == dataset.validation_start.sum() + dataset.user_count
    assert lists.unknown_items == 0
    assert pl.Series(lists.owners).n_unique() == len(lists)
