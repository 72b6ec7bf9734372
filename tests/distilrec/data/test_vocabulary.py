import json

import pytest

from distilrec.core.errors import DataError
from distilrec.data.vocabulary import Vocabulary, load_vocabulary

VOCABULARY = Vocabulary(("a", "é", "c"), ("A", "É", "C"))


def test_indices_start_at_one_and_unknown_is_padding():
    assert VOCABULARY.encode(["a", "c", "nope"]) == [1, 3, 0]
    assert VOCABULARY.decode([1, 3]) == ["a", "c"]
    assert VOCABULARY.title("é") == "É"
    assert "a" in VOCABULARY
    assert "A" not in VOCABULARY


def test_digest_is_of_ids_in_order():
    assert VOCABULARY.sha256 == Vocabulary(VOCABULARY.item_ids, ("x", "y", "z")).sha256
    assert VOCABULARY.sha256 != Vocabulary(("é", "a", "c"), VOCABULARY.titles).sha256
    assert Vocabulary(("a,b",), ("",)).sha256 != Vocabulary(("a", "b"), ("", "")).sha256


def test_saved_and_loaded(tmp_path):
    VOCABULARY.save(tmp_path / "v.json")
    assert load_vocabulary(tmp_path / "v.json") == VOCABULARY


def test_changed_file_is_refused(tmp_path):
    path = tmp_path / "v.json"
    VOCABULARY.save(path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "item_ids": ["a", "é", "d"]}))
    with pytest.raises(DataError, match="the file was changed"):
        load_vocabulary(path)


@pytest.mark.parametrize("text", ["", "[]", '{"item_ids": ["a"]}', '{"item_ids": [1], "titles": ["A"], "sha256": ""}'])
def test_not_a_vocabulary(tmp_path, text):
    path = tmp_path / "v.json"
    path.write_text(text)
    with pytest.raises(DataError, match="not a vocabulary"):
        load_vocabulary(path)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_vocabulary(tmp_path / "v.json")


def test_repeated_ids_are_refused():
    with pytest.raises(DataError, match="an item id twice"):
        Vocabulary(("a", "a"), ("A", "A"))
