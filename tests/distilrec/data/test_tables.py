"""Each kind of bad input, with what its message must name: file, column and row."""

import datetime as dt
import re
from pathlib import Path

import polars as pl
import pytest

from distilrec.config import Config, DataConfig, InteractionColumns, ItemColumns, UserColumns
from distilrec.core.errors import DataError, DataWarning
from distilrec.core.manifest import verify_manifest
from distilrec.data import attributes, stage
from distilrec.data.tables import read_interactions, read_items, read_users

HEADER = "user_id,item_id,timestamp\n"


def interactions(tmp_path: Path, text: str, name: str = "logs.csv", **settings) -> pl.DataFrame:
    path = tmp_path / name
    path.write_text(text)
    return read_interactions(path, DataConfig(interactions=path, **settings))


def test_own_column_names_and_tsv(tmp_path):
    columns = InteractionColumns(user_id="who", item_id="what", timestamp="when")
    frame = interactions(tmp_path, "when\twho\twhat\n2\ta\tx\n1\ta\ty\n", "logs.tsv", columns=columns)
    assert frame.rows() == [("a", "y", 1.0), ("a", "x", 2.0)]


def test_ids_stay_strings_as_written(tmp_path):
    assert interactions(tmp_path, HEADER + "007,1e3,5\n").rows() == [("007", "1e3", 5.0)]


def test_parquet_with_integers_and_datetimes(tmp_path):
    path = tmp_path / "logs.parquet"
    pl.DataFrame({"user_id": [1, 1], "item_id": [10, 11], "timestamp": ["2024-01-02", "2024-01-01"]}).with_columns(
        pl.col("timestamp").str.to_datetime()
    ).write_parquet(path)
    assert [row[1] for row in read_interactions(path, DataConfig(interactions=path)).rows()] == ["11", "10"]


def test_iso_timestamps_are_ordered(tmp_path):
    text = HEADER + "a,x,2024-05-01T10:00:00\na,y,2024-04-30 23:59:59\n"
    assert interactions(tmp_path, text)["item_id"].to_list() == ["y", "x"]


def test_same_moment_keeps_the_order_of_the_file(tmp_path):
    rows = "".join(f"a,{item},5\n" for item in range(50))
    assert interactions(tmp_path, HEADER + rows)["item_id"].to_list() == [str(item) for item in range(50)]


def test_missing_column_names_file_and_columns(tmp_path):
    with pytest.raises(DataError, match=r"logs\.csv: found columns user, item_id, timestamp; expected also user_id"):
        interactions(tmp_path, "user,item_id,timestamp\na,x,1\n")


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("user_id;item_id;timestamp", "The row of names seems to be separated by ';', expected ','."),
        ("u7,i3,1700000000", "Row 1 looks like data: write a row of column names above it."),
        ("userId,Item ID,timestamp", 'For example: { user_id = "userId", item_id = "Item ID" }.'),
    ],
)
def test_missing_columns_come_with_what_may_be_wrong(tmp_path, header, hint):
    with pytest.raises(DataError, match=re.escape(hint)):
        interactions(tmp_path, header + ("\na;x;1\n" if ";" in header else "\na,x,1\n"))


def test_unparsable_timestamp_names_file_column_and_row(tmp_path):
    with pytest.raises(DataError, match=r"logs\.csv: column 'timestamp', row 3: found 'yesterday'"):
        interactions(tmp_path, HEADER + "a,x,1\na,y,yesterday\n")


def test_missing_timestamp_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"row 2: found None"):
        interactions(tmp_path, HEADER + "a,x,\n")


def test_duplicates_are_dropped_with_a_counted_warning(tmp_path):
    with pytest.warns(DataWarning, match=r"logs\.csv: column 'user_id', 'item_id', 'timestamp': 2 repeated .*first: row 3"):
        frame = interactions(tmp_path, HEADER + "a,x,1\na,x,1\na,y,2\na,x,1\na,x,9\n")
    assert frame["item_id"].to_list() == ["x", "y", "x"]  # the same item at another time is no duplicate


def test_rows_without_an_id_are_dropped_with_a_counted_warning(tmp_path):
    with pytest.warns(DataWarning, match=r"logs\.csv: column 'user_id': 1 row\(s\) without an id; dropped \(first: row 2\)"):
        assert len(interactions(tmp_path, HEADER + ",x,1\na,y,2\n")) == 1


def test_no_rows_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"logs\.csv: found no interaction, expected at least one"):
        interactions(tmp_path, HEADER)


def test_events_and_ratings_select(tmp_path):
    text = "user_id,item_id,timestamp,event,rating\na,x,1,view,5\na,y,2,buy,2\na,z,3,buy,4\n"
    columns = InteractionColumns(event="event", rating="rating")
    frame = interactions(tmp_path, text, columns=columns, events=("buy",), min_rating=3)
    assert frame["item_id"].to_list() == ["z"]
    message = r"column 'event': found no event 'cart', expected events that occur: 'buy' \(2\), 'view' \(1\)"
    with pytest.raises(DataError, match=message):
        interactions(tmp_path, text, columns=columns, events=("cart",))


def test_an_event_that_does_not_occur_next_to_one_that_does_is_a_warning(tmp_path):
    text = "user_id,item_id,timestamp,event\na,x,1,view\na,y,2,buy\n"
    with pytest.warns(DataWarning, match=r"found no event 'purchase', expected events that occur: 'view' \(1\), 'buy' \(1\)"):
        frame = interactions(tmp_path, text, columns=InteractionColumns(event="event"), events=("buy", "purchase"))
    assert frame["item_id"].to_list() == ["y"]


def test_unparsable_rating_names_its_row(tmp_path):
    text = "user_id,item_id,timestamp,stars\na,x,1,5\na,y,2,good\n"
    with pytest.raises(DataError, match=r"logs\.csv: column 'stars', row 3: found 'good', expected a number"):
        interactions(tmp_path, text, columns=InteractionColumns(rating="stars"), min_rating=3)


@pytest.mark.parametrize(
    ("name", "content", "message"), [("logs.xlsx", b"", "expected .csv"), ("logs.parquet", b"no", "cannot be read")]
)
def test_unreadable_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_interactions(path, DataConfig(interactions=path))


def test_item_without_text_is_a_counted_warning(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item_id,title\nx,Toy Story\ny,\nz,  \n")
    with pytest.warns(DataWarning, match=r"items\.csv: column 'title': 2 item\(s\) without text.*first: row 3"):
        assert read_items(path, ItemColumns()).rows() == [("x", "Toy Story"), ("y", None), ("z", None)]


def test_repeated_item_is_a_counted_warning(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item_id,title\nx,One\nx,Two\n")
    with pytest.warns(DataWarning, match=r"items\.csv: column 'item_id': 1 repeated item.*first: row 3"):
        assert read_items(path, ItemColumns()).rows() == [("x", "One")]


def users(tmp_path: Path, text: str, *names: str) -> pl.DataFrame:
    path = tmp_path / "users.csv"
    path.write_text(text)
    return read_users(path, UserColumns(user_id="who"), names)


def test_users_attributes_stay_text_and_missing_ones_are_counted(tmp_path):
    with pytest.warns(DataWarning, match=r"users\.csv: column 'age': 1 user\(s\) without a value; .*'unknown' \(first: row 3\)"):
        frame = users(tmp_path, "who,age,plan,more\na,007,free,x\nb, ,paid,y\n", "age", "plan")
    assert frame.columns == ["user_id", "age", "plan"]
    assert frame.rows() == [("a", "007", "free"), ("b", "unknown", "paid")]


def test_repeated_user_is_a_counted_warning(tmp_path):
    with pytest.warns(DataWarning, match=r"users\.csv: column 'who': 1 repeated user\(s\).*first: row 3"):
        assert users(tmp_path, "who,plan\na,free\na,paid\n", "plan").rows() == [("a", "free")]


def test_missing_attribute_names_file_and_columns(tmp_path):
    with pytest.raises(DataError, match=r"users\.csv: found columns who, plan; expected also age\..*data\.attributes"):
        users(tmp_path, "who,plan\na,free\n", "plan", "age")


def test_attribute_that_is_a_list_names_file_column_and_row(tmp_path):
    path = tmp_path / "users.parquet"
    pl.DataFrame({"user_id": [1], "tags": [["a", "b"]]}).write_parquet(path)
    with pytest.raises(DataError, match=r"users\.parquet: column 'tags', row 1: found List\(String\), expected text or numbers"):
        read_users(path, UserColumns(), ("tags",))


def shop(tmp_path: Path, rows: list[str], **settings) -> Config:
    path = tmp_path / "logs.csv"
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return Config.model_validate({"name": "t", "data": {"interactions": path, **settings}})


def test_empty_after_filtering_is_an_error_and_leaves_nothing(tmp_path):
    config = shop(tmp_path, ["a,x,1", "a,y,2", "b,x,3"], k_core=2)
    with pytest.raises(
        DataError, match=r"logs\.csv: found 3 interactions of 2 users with 2 items, but .* k_core = 2 .*at most 2, .*at most 2\)"
    ):
        stage.run(config, {}, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_warnings_are_shown_even_when_nothing_is_left(tmp_path):
    config = shop(tmp_path, ["a,x,1", ",y,2", "b,x,3"], k_core=2)
    with (
        pytest.warns(DataWarning, match=r"column 'user_id': 1 row\(s\) without an id"),
        pytest.raises(DataError, match="found 2 interactions"),
    ):
        stage.run(config, {}, tmp_path / "data")


def test_items_missing_from_the_catalogue_are_counted_and_recorded(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\nx,Toy Story\n")
    rows = [f"{user},{item},{t}" for user in "abc" for t, item in enumerate("wxyz")]
    config = shop(tmp_path, rows, items=tmp_path / "items.csv", k_core=1, split="leave_one_out")
    with pytest.warns(DataWarning, match=r"items\.csv: column 'item_id': 3 item\(s\) of the interactions are not listed.*'w'"):
        manifest = stage.run(config, {}, tmp_path / "data")
    assert len(manifest.metrics["warnings"]) == 1
    _, vocabulary = stage.load(tmp_path / "data")
    assert vocabulary.titles == ("w", "Toy Story", "y", "z")


def test_own_data_is_split_by_time_unless_told(tmp_path):
    config = shop(tmp_path, [f"{user},{item},{t}" for user in "abc" for t, item in enumerate("vwxyz")], k_core=1)
    assert config.data.split_kind == "temporal"
    manifest = stage.run(config, {}, tmp_path / "data")
    assert manifest.settings["split"] == "temporal"


def test_missing_file_is_an_error(tmp_path):
    config = Config.model_validate({"name": "t", "data": {"interactions": tmp_path / "nowhere.csv"}})
    with pytest.raises(DataError, match=r"nowhere\.csv: cannot be read"):
        stage.run(config, {}, tmp_path / "data")


def test_users_are_joined_in_their_order_and_unlisted_ones_are_unknown(tmp_path):
    (tmp_path / "users.csv").write_text("user_id,plan\nc,paid\nz,paid\na,free\n")
    rows = [f"{user},{item},{t}" for user in "abc" for t, item in enumerate("wxyz")]
    config = shop(tmp_path, rows, users=tmp_path / "users.csv", attributes=["plan"], k_core=1, split="leave_one_out")
    with pytest.warns(DataWarning, match=r"users\.csv: column 'user_id': 1 user\(s\) of the interactions are not listed.*'b'"):
        first = stage.run(config, {}, tmp_path / "data")
    assert attributes.load(tmp_path / "data") == {"plan": ("free", "unknown", "paid")}
    (tmp_path / "users.csv").write_text("user_id,plan\na,free\nb,free\nc,free\n")
    assert stage.run(config, {}, tmp_path / "data").fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((HEADER + "a,x,1\n").encode("utf-16"), r"found UTF-16 or UTF-32, expected UTF-8 text\. Convert it"),
        ((HEADER + "a,x,1\n").encode("utf-16-le"), r"found NUL bytes in row 1"),
        ((HEADER + "a,x,1\r").replace("\n", "\r").encode(), r"found lines that end with CR alone, expected LF"),
        ((HEADER + "a,x,1\n").encode() + b"\0" * 99, r"found NUL bytes in row 3"),
        ((HEADER + "a,x,1\na,\xe9,2\n").encode("latin-1"), r"row 3: found bytes that are not UTF-8 \(b'\\xe9,2\\n'\)"),
        ((HEADER + "a,x,1\na,y,2,3,4\n").encode(), r"row 3: found 5 fields, expected 3 as in the header"),
        ((HEADER + 'a,x,1\na,"y,2\nb,z,3\n').encode(), r"row 3: found a field that does not end"),
        ((HEADER + 'a,"x,1\na,y"\nb,z,3\n').encode(), r"row 2: found 'x,1\\na,y', expected an id on one line"),
        (b"user_id,item_id,timestamp,item_id\na,x,1,y\n", r"row 1: found column 'item_id' more than once"),
        (b"", "found no text, expected a row of column names"),
        (b"," * 9000 + b"\n", r"and 8981 more; expected also user_id"),
    ],
)
def test_damaged_text_names_file_fault_and_row(tmp_path, content, message):
    path = tmp_path / "logs.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"logs\.csv: .*{message}") as error:
        read_interactions(path, DataConfig(interactions=path))
    assert "\0" not in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("timestamp", pl.Series([dt.datetime(2024, 1, 1), None, dt.datetime(2024, 1, 1)]), r"row 2: found None, expected a number"),
        ("timestamp", pl.Series([dt.date(2024, 1, 1), None, None]), r"row 2: found None, .*\(2 row\(s\)"),
        ("timestamp", pl.Series([dt.timedelta(1)] * 3), r"row 1: found Duration\(.*\), expected a number"),
        ("timestamp", pl.Series([dt.time(1)] * 3), r"row 1: found Time, expected a number"),
        ("timestamp", pl.Series([[1]] * 3), r"row 1: found List\(Int64\), expected a number"),
        ("timestamp", pl.Series([True] * 3), r"row 1: found Boolean, expected a number"),
        ("item_id", pl.Series([["x"]] * 3), r"row 1: found List\(String\), expected text or numbers"),
        ("item_id", pl.Series([dt.timedelta(1)] * 3), r"row 1: found Duration\(.*\), expected text or whole numbers"),
        ("item_id", pl.Series([1.0, 2.0, 3.0]), r"row 1: found Float64, expected text or whole numbers"),
        ("item_id", pl.Series([b"x", b"\xff", b"y"]), r"row 2: found b'\\xff', expected text in UTF-8"),
        ("item_id", pl.Series(["x", "y", "z\0"]), r"row 3: found 'z\\x00', expected text without NUL"),
        ("event", pl.Series([[1]] * 3), r"row 1: found List\(Int64\), expected text or numbers"),
        ("rating", pl.Series([[1]] * 3), r"row 1: found List\(Int64\), expected a number"),
    ],
)
def test_parquet_column_of_another_type_names_file_column_and_row(tmp_path, column, values, message):
    path = tmp_path / "logs.parquet"
    good = {"user_id": ["a"] * 3, "item_id": ["x", "y", "z"], "timestamp": [1, 2, 3], "event": ["e"] * 3, "rating": [5.0] * 3}
    pl.DataFrame(good | {column: values}).write_parquet(path)
    columns = InteractionColumns(event="event", rating="rating")
    config = DataConfig(interactions=path, columns=columns, events=("e",), min_rating=1)
    with pytest.raises(DataError, match=rf"logs\.parquet: column '{column}', {message}"):
        read_interactions(path, config)


def test_titles_of_a_parquet_catalogue_may_be_numbers_but_no_lists(tmp_path):
    path = tmp_path / "items.parquet"
    pl.DataFrame({"item_id": [1], "title": [2001]}).write_parquet(path)
    assert read_items(path, ItemColumns()).rows() == [("1", "2001")]
    pl.DataFrame({"item_id": [1], "title": [["a"]]}).write_parquet(path)
    with pytest.raises(DataError, match=r"column 'title', row 1: found List\(String\), expected text or numbers"):
        read_items(path, ItemColumns())


@pytest.mark.parametrize("text", ["1/2/24", "2024-02-30", "2024-01-01 10:00 CET"])
def test_other_forms_of_dates_are_refused_with_those_that_are_read(tmp_path, text):
    with pytest.raises(DataError, match=rf"column 'timestamp', row 3: found '{re.escape(text)}', expected .*four digits, as 2024-"):
        interactions(tmp_path, HEADER + f"a,x,2024-01-01\na,y,{text}\n")


def test_dates_whose_order_no_row_shows_name_the_setting(tmp_path):
    text = HEADER + "a,x,02/01/1970\na,y,01/02/1970\n"
    with pytest.raises(DataError, match=r"row 2: found '02/01/1970', expected to know whether .* Set data\.date_order .*\(2 row"):
        interactions(tmp_path, text)
    assert interactions(tmp_path, text, date_order="day_first")["timestamp"].to_list() == [86_400, 31 * 86_400]
    with pytest.raises(DataError, match=r"row 3: found '13/01/1970', expected one order .*, but row 2 has '01/13/1970'"):
        interactions(tmp_path, HEADER + "a,x,01/13/1970\na,y,13/01/1970\n")


def test_dates_without_a_zone_among_those_with_one_are_a_counted_warning(tmp_path):
    with pytest.warns(DataWarning, match=r"'timestamp': 1 date\(s\) without a zone, among 2 with one; .* UTC \(first: row 3\)"):
        frame = interactions(tmp_path, HEADER + "a,x,1970-01-01T01:00+01:00\na,y,1970-01-02\na,z,1970-01-02 00:01Z\n")
    assert frame["timestamp"].to_list() == [0, 86_400, 86_460]


def test_numbers_and_dates_in_one_column_are_refused_with_their_counts(tmp_path):
    with pytest.raises(
        DataError, match=r"row 3: found '2024-01-01', expected numbers .* 1 row\(s\) with a date and 2 with a number"
    ):
        interactions(tmp_path, HEADER + "a,x,1\na,y,2024-01-01\na,z,3\n")


def test_milliseconds_among_seconds_are_a_counted_warning(tmp_path):
    with pytest.warns(DataWarning, match=r"'timestamp': 1 number\(s\) a thousand times as large .* \(first: row 3\)"):
        interactions(tmp_path, HEADER + "a,x,1714557600\na,y,1714557600000\n")


def test_file_that_changes_while_it_is_read_is_not_kept_under_its_former_digest(tmp_path, monkeypatch):
    config = shop(
        tmp_path, [f"{user},{item},{t}" for user in "abc" for t, item in enumerate("vwxyz")], k_core=1, split="leave_one_out"
    )
    first = stage.run(config, {}, tmp_path / "data")
    (tmp_path / "logs.csv").write_text(
        HEADER + "".join(f"{user},{item},{t}\n" for user in "abcd" for t, item in enumerate("vwxyz"))
    )

    def read_while_written(path: Path, settings: DataConfig) -> pl.DataFrame:
        with path.open("a") as file:
            file.write("e,v,9\n")
        return read_interactions(path, settings)

    monkeypatch.setattr(stage, "read_interactions", read_while_written)
    with pytest.raises(DataError, match=r"logs\.csv: found that it was changed while it was read"):
        stage.run(config, {}, tmp_path / "data")
    assert verify_manifest(tmp_path / "data") == first
