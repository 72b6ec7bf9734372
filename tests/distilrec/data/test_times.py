"""Dates in the forms that logs have."""

import polars as pl
import pytest

from distilrec.data.times import DateOrder, parse_times

SECOND_OF_JANUARY = 86_400


@pytest.mark.parametrize(
    "text",
    [
        "1970-01-02",
        "1970/01/02 0:00",
        "1970-01-02 00:00:00 UTC",
        "1970-01-02 02:00:00 +02",
        "1970-01-02T02:30+02:30",
        "1970-01-01 22:00 GMT-2",
        "02.01.1970 00:00",
        "2.1.1970, 0:00",
        "2 January 1970",
        "02-Jan-1970 00:00:00,000",
        "02/Jan/1970:00:00:00 +0000",
        "Jan. 2, 1970",
        "January 2 1970 12:00 AM",
        "Fri, 02 Jan 1970 00:00:00 GMT",
        "Fri Jan 02 1970 02:00:00 GMT+0200 (CEST)",
    ],
)
def test_common_forms_of_one_day(text):
    assert parse_times(pl.Series([text])).seconds.to_list() == [SECOND_OF_JANUARY]


@pytest.mark.parametrize(
    "text",
    ["1970-02-30", "1970-01-01T10:00:61", "1970-01-01T10:00+99", "1970-01-01 10:00+02:99", "1/13/70", "1970-01-02 00:00 CET",
     "1970-01-02 13:00 PM", "2 Foo 1970", "13/13/1970", "1970-01-02x", "yesterday", ""],
)  # fmt: skip
def test_other_text_is_no_time(text):
    assert parse_times(pl.Series([text]), "day_first").seconds.to_list() == [None]


@pytest.mark.parametrize(
    ("rows", "order", "expected"),
    [
        (["02/01/1970", "13/01/1970"], "auto", [86_400, 12 * 86_400]),
        (["1/2/1970 0:00", "1/13/1970 1:05 PM"], "auto", [86_400, 12 * 86_400 + 47_100]),
        (["02-01-1970"], "day_first", [86_400]),
        (["01/02/1970"], "month_first", [86_400]),
        (["01/02/1970", "13/01/1970"], "month_first", [86_400, None]),
        (["02/01/1970"], "auto", [None]),
        (["02/01/1970", "13/01/1970", "01/13/1970"], "auto", [None, None, None]),
    ],
)
def test_order_of_day_and_month_follows_from_the_column_or_the_settings(rows: list[str], order: DateOrder, expected):
    assert parse_times(pl.Series(rows), order).seconds.to_list() == expected


def test_zones_are_noted():
    assert parse_times(pl.Series(["1970-01-02 00:00Z", "1970-01-02", "x"])).zoned.to_list() == [True, False, False]
