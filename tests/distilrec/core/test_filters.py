"""Names, values and codes of filters, and the messages where a filter cannot be understood."""

import shutil
import subprocess
import sys

import pytest

from distilrec.core import filters
from distilrec.core.filters import FilterError, FilterValues, pairs_of, parse_filters

DECLARED = FilterValues({"category": ["Lips", "Nails", "Näiler"], "brand": ["OPI"]})


def test_codes_count_through_all_attributes():
    assert DECLARED.encode([("brand", "OPI"), ("category", "Nails"), ("brand", "OPI")], 4) == [4, 2]
    assert DECLARED.ranges() == [(1, 4), (4, 5)]
    assert DECLARED.count == 4


def test_declaration_survives_the_configuration_of_a_model():
    assert parse_filters(DECLARED.to_json()) == DECLARED
    assert DECLARED.to_json().isascii()
    assert not parse_filters("")
    for text in ("[", "[1]", '{"a": [1]}', '{"a": 1}'):
        with pytest.raises(FilterError):
            parse_filters(text)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ([("category", "nails")], "'nails' for 'category', expected one of its 3 values; did you mean 'Nails' or 'Näiler'"),
        ([("category", "xyz")], "'xyz' for 'category', expected one of its 3 values$"),
        ([("colour", "red")], "found the attribute 'colour', expected one of 'category', 'brand'"),
        ([("category", "Lips"), ("category", "Nails"), ("brand", "OPI")], "found 3 values, expected at most 2"),
    ],
)
def test_what_is_not_declared_is_named_with_what_is_near(wanted, message):
    with pytest.raises(FilterError, match=message):
        DECLARED.encode(wanted, 2)


def test_filter_is_written_with_one_value_or_several():
    assert pairs_of({"category": "Nails", "brand": ("OPI", "Essie")}) == [
        ("category", "Nails"),
        ("brand", "OPI"),
        ("brand", "Essie"),
    ]


def test_served_copy_needs_neither_distilrec_nor_its_folder(tmp_path):
    shutil.copyfile(filters.__file__, tmp_path / "filters.py")
    command = [sys.executable, "-I", "-c", "import sys; sys.path.insert(0, '.'); import filters; print(filters.PARAMETER)"]
    assert subprocess.check_output(command, cwd=tmp_path, text=True).strip() == "filters"
