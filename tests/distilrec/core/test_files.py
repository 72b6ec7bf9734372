import pytest

from distilrec.core.files import replace_whole, write_text


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "one")
    write_text(path, "zwölf")
    replace_whole(tmp_path / "b", b"\0")
    assert path.read_text(encoding="utf-8") == "zwölf"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b"]


def test_a_write_that_fails_leaves_no_temporary_file(tmp_path):
    (tmp_path / "a" / "full").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path / "a", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
