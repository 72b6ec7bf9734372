import json

import pytest

from distilrec.config import spec_of_artefact
from distilrec.core.errors import DataError, RepositoryError
from distilrec.core.golden import load_golden
from export.graph.onnx_runner import OnnxRunner
from export.repository.versions import next_number, served_version, version_folder


def write_config(folder, text):
    (folder / "student").mkdir()
    (folder / "student" / "config.pbtxt").write_text(text)


def test_served_version_is_the_pinned_one(tmp_path):
    write_config(tmp_path, 'name: "student"\nversion_policy { specific { versions: 7 } }\n')
    assert served_version(tmp_path) == 7
    assert version_folder(tmp_path) == tmp_path / "student" / "7"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name: "student"\n', r"found versions \[\] pinned, expected one"),
        ("version_policy { specific { versions: 1 versions: 2 } }", r"found versions \[1, 2\] pinned"),
        ("version_policy {", "not a model configuration"),
        ("no_such_field: 3", "not a model configuration"),
    ],
)
def test_configuration_that_pins_no_version_is_refused(tmp_path, text, message):
    write_config(tmp_path, text)
    with pytest.raises(RepositoryError, match=message):
        served_version(tmp_path)


def test_missing_configuration_is_refused(tmp_path):
    with pytest.raises(RepositoryError, match="cannot be read"):
        served_version(tmp_path)


def test_artefact_carries_requests_with_the_answers_it_must_give(shop_run):
    from distilrec.core.manifest import read_manifest

    golden = load_golden(shop_run / "export" / "golden.npz")
    spec = spec_of_artefact(read_manifest(shop_run / "export"))
    items, scores = OnnxRunner(shop_run / "export" / "fp32" / "model.onnx", spec).recommend(golden.history, golden.exclude)
    assert len(golden.history) == 64
    assert (items == golden.items).all()
    assert (scores == golden.scores).all()


@pytest.mark.parametrize("content", [None, b"", b"no zip"])
def test_file_that_holds_no_golden_requests_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "golden.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"golden\.npz: (no such file|not golden requests)"):
        load_golden(tmp_path / "golden.npz")


def test_folders_that_are_no_version_of_ours_do_not_count(tmp_path):
    for name in ("9999999999999999999999", "9223372036854775807", "\u00b2", "notes"):
        (tmp_path / "student" / name).mkdir(parents=True)
    (tmp_path / "versions.json").write_text(json.dumps({"versions": [{"number": 3}, {"number": 10**22}]}))
    assert next_number(tmp_path) == 4
    (tmp_path / "student" / "999999999").mkdir()
    with pytest.raises(RepositoryError, match=r"version 999999999, expected smaller ones"):
        next_number(tmp_path)


def test_numbers_are_never_used_twice(tmp_path):
    (tmp_path / "student" / "4.partial").mkdir(parents=True)
    assert next_number(tmp_path) == 5
    (tmp_path / "student" / "6").mkdir()
    (tmp_path / "versions.json").write_text(json.dumps({"versions": [{"number": 3}]}))
    assert next_number(tmp_path) == 7
    (tmp_path / "versions.json").write_text(json.dumps({"versions": [{"number": 9}]}))
    assert next_number(tmp_path) == 10
