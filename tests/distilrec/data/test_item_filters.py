"""Attributes that requests filter by: from a catalogue's columns to a table of codes."""

import numpy as np
import polars as pl
import pytest

from distilrec.config import DataConfig, FilterColumn, ItemColumns
from distilrec.core.errors import DataError, DataWarning
from distilrec.data.item_filters import build_filters, load_filters
from distilrec.data.stage import prepare_filters
from distilrec.data.tables import read_item_values
from distilrec.data.vocabulary import Vocabulary

VALUES = {"category": [["Lips"], ["Nails"], []], "tag": [["b", "a"], ["a"], ["c"]]}


def test_values_are_sorted_and_items_hold_their_codes(tmp_path):
    table = build_filters(VALUES)
    assert table.values.values == {"category": ("Lips", "Nails"), "tag": ("a", "b", "c")}
    assert table.codes.tolist() == [[0, 0, 0], [1, 4, 3], [2, 3, 0], [0, 5, 0]]
    assert table.widths == (1, 2)
    table.save(tmp_path / "filters.npz")
    loaded = load_filters(tmp_path / "filters.npz")
    assert (loaded.values, loaded.widths, loaded.codes.tolist()) == (table.values, table.widths, table.codes.tolist())
    assert load_filters(tmp_path / "none.npz") is None


@pytest.mark.parametrize(
    ("wanted", "fitting"),
    [
        ([0, 0, 0], [1, 2, 3]),
        ([1, 0, 0], [1]),
        ([1, 2, 0], [1, 2]),
        ([3, 1, 2], [1, 2]),
        ([2, 4, 0], []),
        ([6, 0, 0], []),
        ([-1, 1, 0], []),
    ],
)
def test_values_of_one_attribute_are_alternatives_and_attributes_must_all_fit(wanted, fitting):
    fits = build_filters(VALUES).fits(np.array([wanted], np.int32))
    assert np.flatnonzero(fits[0]).tolist() == fitting


def test_columns_of_all_kinds_are_read(tmp_path):
    frame = pl.DataFrame(
        {
            "item_id": ["a", "b", "a", "c", None],
            "category": [" Lips ", "", "Nails", None, "Eyes"],
            "tags": ["x| y|x", "y", "z", "||", "w"],
            "sizes": [[1, 2], [], [3], [2, None], [9]],
            "year": [1999, 2001, 2002, None, 2003],
        }
    )
    path = tmp_path / "items.parquet"
    frame.write_parquet(path)
    wanted = {
        "category": FilterColumn(),
        "tag": FilterColumn(column="tags", separator="|"),
        "size": FilterColumn(column="sizes"),
        "year": FilterColumn(),
    }
    found = read_item_values(path, ItemColumns(), wanted)
    assert found.rows() == [
        ("a", ["Lips"], ["x", "y"], ["1", "2"], ["1999"]),
        ("b", [], ["y"], [], ["2001"]),
        ("c", [], [], ["2"], []),
    ]


def test_items_that_the_catalogue_lacks_have_no_values(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item_id,category\na,Lips\nother,Eyes\n")
    config = DataConfig(interactions=path, items=path, filters={"category": FilterColumn()})
    with pytest.warns(DataWarning, match="1 without category"):
        table = prepare_filters(Vocabulary(("a", "b"), ("a", "b")), config)
    assert table.values.values == {"category": ("Lips",)}  # of items in the vocabulary alone
    assert table.codes.tolist() == [[0], [1], [0]]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("category", [{"x": 1}, {"x": 2}], "column 'category', row 1: found Struct.*, expected text or numbers"),
        ("category", [[[1]], [[2]]], "column 'category', row 1: found List.*, expected lists of text or numbers"),
        ("categories", ["a", "b"], "category"),
        ("category", ["", ""], "found no item with a value"),
        ("category", [[str(n) for n in range(65)], []], "found an item with 65 values, expected at most 64"),
    ],
)
def test_column_that_cannot_be_filtered_by_is_explained(tmp_path, column, values, message):
    path = tmp_path / "items.parquet"
    pl.DataFrame({"item_id": ["a", "b"], column: values}).write_parquet(path)
    config = DataConfig(interactions=path, items=path, filters={"category": FilterColumn()})
    with pytest.raises(DataError, match=message):
        prepare_filters(Vocabulary(("a", "b"), ("a", "b")), config)


def test_more_names_than_clients_should_read_are_refused():
    with pytest.raises(DataError, match=r"brand has 20,000.*, expected at most 1,048,576"):
        build_filters({"brand": [[f"{place:060d}"] for place in range(20_000)]})


def test_filters_need_a_catalogue(tmp_path):
    with pytest.raises(ValueError, match="'filters' are columns of 'items'"):
        DataConfig(interactions=tmp_path / "x.csv", filters={"category": FilterColumn()})
