"""Tables of one file, and of a folder of Parquet parts."""

import polars as pl
import pytest

from distilrec.core.errors import DataError
from distilrec.data.files import column_names, digest_of, files_of, read_table
from distilrec.data.synthetic import INTERACTIONS, Shop, write_shop

COLUMNS = {"user_id": "user", "item_id": "item"}


@pytest.fixture
def folder(tmp_path):
    parts = tmp_path / "log"
    (parts / "day=2").mkdir(parents=True)
    pl.DataFrame({"user": ["a", "b"], "item": [1, 2]}).write_parquet(parts / "part-0.parquet")
    pl.DataFrame({"user": ["c"], "item": [3]}).write_parquet(parts / "day=2" / "part-0.parquet")
    (parts / "_SUCCESS").touch()
    (parts / "_temporary").mkdir()
    (parts / "_temporary" / "part-9.parquet").write_bytes(b"unfinished")
    return parts


def test_parts_are_one_table_in_order_of_their_paths(folder):
    table = read_table(folder, COLUMNS)
    assert table.frame.to_dict(as_series=False) == {"row": [1, 2, 3], "user_id": ["c", "a", "b"], "item_id": [3, 1, 2]}
    assert not table.is_text
    assert column_names(folder) == ["user", "item"]


def test_digest_follows_names_and_content_of_the_parts(folder):
    before = digest_of(folder)
    (folder / "_SUCCESS").write_text("again")
    assert digest_of(folder) == before
    (folder / "part-0.parquet").rename(folder / "part-1.parquet")
    renamed = digest_of(folder)
    pl.DataFrame({"user": ["d"], "item": [3]}).write_parquet(folder / "part-1.parquet")
    assert len({before, renamed, digest_of(folder)}) == 3


def test_parts_of_other_types_and_broken_parts_are_named(folder):
    pl.DataFrame({"user": ["c"], "item": ["3"]}).write_parquet(folder / "part-1.parquet")
    with pytest.raises(DataError, match=r"part-1\.parquet: found column 'item' of type String, expected Int64 as in part-0"):
        read_table(folder, COLUMNS)
    pl.DataFrame({"user": ["c"]}).write_parquet(folder / "part-1.parquet")
    with pytest.raises(DataError, match=r"part-1\.parquet: found columns user; expected also item"):
        read_table(folder, COLUMNS)
    (folder / "part-1.parquet").write_bytes((folder / "part-0.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match=r"part-1\.parquet: cannot be read"):
        read_table(folder, COLUMNS)


def test_a_folder_without_parts_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"found a folder without a \.parquet file"):
        files_of(tmp_path)


def test_a_generated_shop_can_be_read(tmp_path):
    rows = write_shop(Shop(users=50, items=100, events=500), tmp_path / "shop")
    names = {name: name for name in ("user_id", "item_id", "timestamp")}
    assert len(read_table(tmp_path / "shop" / INTERACTIONS, names).frame) == rows
