"""Files of requests and of answers; the part with a server is tested in tests/distilrec/cli/test_recommend.py."""

import dataclasses
import fcntl
import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients import InvalidRequest, Recommendations
from distilrec.bulk.parts import BulkJob, Parts, result_table
from distilrec.bulk.requests import open_input
from distilrec.core.errors import DataError

KEY = ("user_id", pl.String())
JOB = BulkJob("input", 10, 4, "student", "1", "vocabulary")
ROWS = [
    {"user_id": "u1", "history": ["a", "b"], "exclude": ["c"]},
    {"user_id": "u2", "history": []},
    {"user_id": None, "history": None, "exclude": None},
    {"user_id": "ключ", "history": ["a", None]},
]


def write_json_lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def write_parquet(path, rows):
    names = list(dict.fromkeys(name for row in rows for name in row))
    pl.DataFrame({name: [row.get(name) for row in rows] for name in names}).write_parquet(path)
    return path


WRITERS = pytest.mark.parametrize(("write", "name"), [(write_parquet, "in.parquet"), (write_json_lines, "in.jsonl")])


@WRITERS
@pytest.mark.parametrize(("begin", "size"), [(0, 3), (0, 100), (2, 2), (3, 1), (4, 2)])
def test_input_is_read_in_parts_from_any_row(tmp_path, write, name, begin, size):
    found = open_input(write(tmp_path / name, ROWS))
    assert (found.rows, found.key) == (4, KEY)
    parts = list(found.rows_from(begin, size))
    assert all(len(part.keys) == len(part.histories) == len(part.exclude) <= size for part in parts)
    assert [key for part in parts for key in part.keys] == ["u1", "u2", None, "ключ"][begin:]
    assert [history for part in parts for history in part.histories] == [["a", "b"], [], None, ["a", None]][begin:]
    assert [exclude for part in parts for exclude in part.exclude] == [["c"], [], [], []][begin:]


@WRITERS
def test_rows_without_a_user_are_counted_from_1(tmp_path, write, name):
    found = open_input(write(tmp_path / name, [{"history": ["a"], "more": 1}] * 5))
    assert found.key == ("row", pl.Int64())
    assert [part.keys for part in found.rows_from(2, 2)] == [[3, 4], [5]]


@WRITERS
def test_users_may_be_numbers(tmp_path, write, name):
    found = open_input(write(tmp_path / name, [{"history": ["a"], "user_id": number} for number in (7, None, 9)]))
    assert found.key == ("user_id", pl.Int64())


@WRITERS
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"history": [1, 2]}, "column 'history'.*found .*expected"),
        ({"history": "a b"}, "column 'history'.*found .*expected"),
        ({"history": ["a"], "exclude": [1.5]}, "column 'exclude'.*found .*expected"),
        ({"items": ["a"]}, "column 'history'.*missing"),
        ({"history": ["a"], "user_id": 1.5}, "column 'user_id'.*found .*expected strings"),
        ({"history": ["a"], "user_id": ["u"]}, "column 'user_id'.*found .*expected strings"),
    ],
)
def test_wrong_types_name_file_and_column(tmp_path, write, name, row, message):
    with pytest.raises(DataError, match=f"{name}: {message}"):
        open_input(write(tmp_path / name, [row]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("", "line 2: not JSON"),
        ("[1]", "line 2: missing, found \\[1\\]"),
        ('{"history": [3]}', "column 'history', line 2: found \\[3\\]"),
        ('{"history": ["\\ud800"]}', "column 'history', line 2: found"),
        ('{"history": [], "user_id": 5}', "column 'user_id', line 2: found 5"),
        ('{"history": [], "user_id": true}', "column 'user_id', line 2: found True"),
    ],
)
def test_faults_of_json_lines_name_the_line(tmp_path, line, message):
    path = tmp_path / "in.jsonl"
    path.write_text('{"history": ["a"], "user_id": "u"}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        open_input(path)


def test_a_number_that_parquet_cannot_hold_is_an_error(tmp_path):
    with pytest.raises(DataError, match="column 'user_id', line 1"):
        open_input(write_json_lines(tmp_path / "in.jsonl", [{"history": [], "user_id": 1 << 63}]))


@pytest.mark.parametrize("name", ["in.csv", "in", "in.parquet.gz"])
def test_other_kinds_of_file_are_refused(tmp_path, name):
    with pytest.raises(DataError, match=r"expected \.parquet or \.jsonl"):
        open_input(tmp_path / name)


def test_files_that_are_not_there_or_not_parquet(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        open_input(tmp_path / "in.parquet")
    (tmp_path / "in.parquet").write_text("no")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        open_input(tmp_path / "in.parquet")


@WRITERS
def test_an_empty_file_has_no_rows(tmp_path, write, name):
    path = tmp_path / name
    if write is write_parquet:
        pl.DataFrame(schema={"history": pl.List(pl.String)}).write_parquet(path)
    else:
        path.write_text("")
    found = open_input(path)
    assert found.rows == 0
    assert list(found.rows_from(0, 10)) == []


@settings(max_examples=30)
@given(st.lists(st.lists(st.text(), max_size=5), max_size=20), st.integers(1, 7), st.data())
def test_json_lines_and_parquet_say_the_same(tmp_path_factory, histories, size, data):
    folder, begin = tmp_path_factory.mktemp("same"), data.draw(st.integers(0, len(histories)))
    write_json_lines(folder / "in.jsonl", [{"history": history} for history in histories])
    pl.DataFrame({"history": histories}, schema={"history": pl.List(pl.String)}).write_parquet(folder / "in.parquet")
    first, second = (list(open_input(folder / name).rows_from(begin, size)) for name in ("in.jsonl", "in.parquet"))
    assert first == second
    assert [history for part in first for history in part.histories] == histories[begin:]


def answer(number):
    return Recommendations((f"i{number}", "ключ"), (0.5, 0.1), ("a", "b"), ("?",), "1", 3.0)


def write_some(parts, count):
    for number in range(count):
        parts.write(number, result_table(KEY, [f"u{number}", "bad"], [answer(number), InvalidRequest("history: found 5")]))


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl"])
def test_parts_become_the_output_and_go(tmp_path, name):
    parts = Parts(tmp_path / name)
    with parts.locked():
        assert parts.begin(JOB) == ""
        write_some(parts, 3)
        assert parts.finished() == 3
        parts.join(3)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    if name == "out.parquet":
        rows = pl.read_parquet(tmp_path / name).to_dicts()
    else:
        rows = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
    assert [row["user_id"] for row in rows] == ["u0", "bad", "u1", "bad", "u2", "bad"]
    assert rows[2] == {
        "user_id": "u1",
        "item_ids": ["i1", "ключ"],
        "scores": [0.5, pytest.approx(0.1)],
        "unknown_ids": ["?"],
        "model_version": "1",
        "error": None,
    }
    assert rows[3]["error"] == "history: found 5"
    assert rows[3]["item_ids"] is rows[3]["model_version"] is None


def test_the_same_job_goes_on_with_the_first_part_that_is_missing(tmp_path):
    parts = Parts(tmp_path / "out.parquet")
    with parts.locked():
        parts.begin(JOB)
        write_some(parts, 3)
    (parts.folder / "part-000001.parquet").unlink()
    again = Parts(tmp_path / "out.parquet")
    with again.locked():
        assert again.begin(JOB) == ""
        assert again.finished() == 1


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(BulkJob)])
def test_another_job_starts_again_and_says_why(tmp_path, field):
    parts = Parts(tmp_path / "out.parquet")
    with parts.locked():
        parts.begin(JOB)
        write_some(parts, 2)
        other = dataclasses.replace(JOB, **{field: 99 if isinstance(getattr(JOB, field), int) else "other"})
        assert parts.begin(other) == field.replace("_", " ")
        assert parts.finished() == 0
        assert parts.begin(other) == ""


def test_a_damaged_state_starts_again(tmp_path):
    parts = Parts(tmp_path / "out.parquet")
    with parts.locked():
        parts.begin(JOB)
        write_some(parts, 2)
        (parts.folder / "state.json").write_text("{")
        assert parts.begin(JOB) == "state"
        assert parts.finished() == 0


def test_files_of_others_stay(tmp_path):
    parts = Parts(tmp_path / "out.parquet")
    with parts.locked():
        parts.begin(JOB)
        (parts.folder / "notes.txt").write_text("mine")
        write_some(parts, 1)
        parts.join(1)
    assert [path.name for path in parts.folder.iterdir()] == ["notes.txt"]


def test_two_runs_for_one_output_do_not_meet(tmp_path):
    parts = Parts(tmp_path / "out.parquet")
    parts.folder.mkdir()
    with (parts.folder / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another run writes this output"), parts.locked():
            pass


def test_an_output_in_no_folder(tmp_path):
    with pytest.raises(DataError, match="cannot be written"), Parts(tmp_path / "none" / "out.parquet").locked():
        pass


def test_damaged_parquet_is_named_wherever_the_damage_is(tmp_path):
    """Some bytes are metadata, which is read first; others are pages, which are read later. Polars panics at a few of them."""
    path = tmp_path / "in.parquet"
    pl.DataFrame({"user_id": ["a"] * 50, "history": [["abc", "b"]] * 50}).write_parquet(path, compression="uncompressed")
    good, random = path.read_bytes(), np.random.default_rng(0)
    messages = []
    for _ in range(60):
        content = np.frombuffer(good, np.uint8).copy()
        content[random.integers(4, len(good) - 8, 8)] = random.integers(0, 256, 8)
        path.write_bytes(content.tobytes())
        try:
            list(open_input(path).rows_from(0, 100))
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > 30
    assert all(message.startswith(str(path)) for message in messages)


def test_nested_json_names_its_line(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"history": []}\n{"history": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    with pytest.raises(DataError, match=r"in\.jsonl: line 2: not JSON"):
        open_input(path)


@WRITERS
def test_input_that_changes_after_it_was_opened_is_refused(tmp_path, write, name):
    found = open_input(write(tmp_path / name, ROWS))
    found.check_unchanged()
    write(tmp_path / name, ROWS[:2])
    with pytest.raises(DataError, match=rf"{name}: found that it was changed while it was read"):
        found.check_unchanged()
    (tmp_path / name).write_bytes(b"[]\n" * 9)
    with pytest.raises(DataError, match=rf"{name}: cannot be read"):
        list(found.rows_from(0, 4))
