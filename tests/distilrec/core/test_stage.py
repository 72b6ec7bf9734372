import json
import os
from pathlib import Path

import pytest

from distilrec.core.errors import ManifestError
from distilrec.core.manifest import read_manifest, verify_manifest
from distilrec.core.stage import forget_stage, run_stage


def run(out_dir: Path, calls: list[str], inputs: dict[str, Path] | None = None, size: int = 1, seed: int = 0, work=None):
    def write(folder: Path, _scratch: Path) -> dict[str, object]:
        calls.append(out_dir.name)
        (folder / "result.txt").write_text(str(size))
        return {"size": size}

    return run_stage(out_dir.name, settings={"size": size}, seed=seed, inputs=inputs or {}, out_dir=out_dir, work=work or write)


def test_unchanged_stage_is_skipped(tmp_path):
    calls: list[str] = []
    first = run(tmp_path / "a", calls)
    assert run(tmp_path / "a", calls) == first
    assert calls == ["a"]
    assert verify_manifest(tmp_path / "a").metrics["size"] == 1


@pytest.mark.parametrize("change", [{"size": 2}, {"seed": 1}])
def test_changed_setting_or_seed_runs_again(tmp_path, change):
    calls: list[str] = []
    first = run(tmp_path / "a", calls)
    assert run(tmp_path / "a", calls, **change).fingerprint != first.fingerprint
    assert calls == ["a", "a"]


def test_changed_code_runs_again_and_later_stages_do_not_where_files_are_the_same(tmp_path, monkeypatch):
    calls: list[str] = []
    for code in ("one", "two"):
        monkeypatch.setattr("distilrec.core.stage.code_digest", lambda _, code=code: code)
        run(tmp_path / "a", calls)
        monkeypatch.undo()
        run(tmp_path / "b", calls, {"a": tmp_path / "a"})
    assert calls == ["a", "b", "a"]


def test_a_forgotten_stage_runs_again_and_stays_readable_until_then(tmp_path):
    calls: list[str] = []
    first = run(tmp_path / "a", calls)
    run(tmp_path / "b", calls, {"a": tmp_path / "a"})
    forget_stage(tmp_path / "a")
    verify_manifest(tmp_path / "a")
    assert run(tmp_path / "a", calls).digest == first.digest
    run(tmp_path / "b", calls, {"a": tmp_path / "a"})
    assert calls == ["a", "b", "a"]


def test_changed_input_runs_again(tmp_path):
    calls: list[str] = []
    run(tmp_path / "a", calls)
    run(tmp_path / "b", calls, {"a": tmp_path / "a"})
    run(tmp_path / "a", calls, size=2)
    run(tmp_path / "b", calls, {"a": tmp_path / "a"})
    assert calls == ["a", "b", "a", "b"]


@pytest.mark.parametrize("damage", ["change", "remove", "add"])
def test_damaged_input_is_refused(tmp_path, damage):
    calls: list[str] = []
    run(tmp_path / "a", calls)
    path = tmp_path / "a" / "result.txt"
    if damage == "change":
        path.write_text("2")
    elif damage == "remove":
        path.unlink()
    else:
        (tmp_path / "a" / "more.txt").touch()
    with pytest.raises(ManifestError, match=r"is not what its manifest says:\n  (result|more)\.txt"):
        run(tmp_path / "b", calls, {"a": tmp_path / "a"})
    assert not (tmp_path / "b").exists()
    run(tmp_path / "a", calls)  # the stage itself is made anew
    verify_manifest(tmp_path / "a")


def test_missing_input_says_what_to_do(tmp_path):
    with pytest.raises(ManifestError, match=r"found no manifest\.json.*Run the stage"):
        run(tmp_path / "b", [], {"a": tmp_path / "a"})


def test_failed_stage_keeps_the_former_result(tmp_path):
    run(tmp_path / "a", [])

    def fail(folder: Path, _scratch: Path) -> dict[str, object]:
        (folder / "result.txt").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run(tmp_path / "a", [], size=2, work=fail)
    assert verify_manifest(tmp_path / "a").settings == {"size": 1}
    assert (tmp_path / "a" / "result.txt").read_text() == "1"


def test_interrupted_stage_finds_its_scratch_again_unless_settings_changed(tmp_path):
    found = []

    def interrupted(folder: Path, scratch: Path) -> dict[str, object]:
        found.append((scratch / "checkpoint").exists())
        assert not (folder / "half").exists()
        (folder / "half").touch()
        (scratch / "checkpoint").touch()
        raise KeyboardInterrupt

    for size in (1, 1, 2):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "a", [], size=size, work=interrupted)
    assert found == [False, True, False]
    run(tmp_path / "a", [], size=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["manifest.json", "result.txt"]


@pytest.mark.parametrize("manifest", [None, "{}", "cut short", '{"manifest_version": 3}'])
def test_a_folder_that_no_stage_has_written_is_never_replaced(tmp_path, manifest):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "interactions.csv").write_text("the only copy")
    if manifest is not None:
        (folder / "manifest.json").write_text(manifest)
    calls: list[str] = []
    with pytest.raises(ManifestError, match=r"data: found files that no stage .* expected an empty place .* Move them away"):
        run(folder, calls)
    assert calls == []
    assert (folder / "interactions.csv").read_text() == "the only copy"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_files_that_appear_while_a_stage_runs_are_not_replaced(tmp_path):
    def work(_folder: Path, _scratch: Path) -> dict[str, object]:
        (tmp_path / "a").write_text("notes")
        return {}

    with pytest.raises(ManifestError, match="found files that no stage"):
        run(tmp_path / "a", [], work=work)
    assert (tmp_path / "a").read_text() == "notes"


def test_an_empty_folder_and_one_of_another_version_are_replaced(tmp_path):
    calls: list[str] = []
    (tmp_path / "a").mkdir()
    run(tmp_path / "a", calls)
    (tmp_path / "a" / "manifest.json").write_text('{"format_version": 99}')
    run(tmp_path / "a", calls)
    assert calls == ["a", "a"]
    verify_manifest(tmp_path / "a")


def test_unreadable_manifest(tmp_path):
    run(tmp_path / "a", [])
    (tmp_path / "a" / "manifest.json").write_text('{"format_version": 99}')
    with pytest.raises(ManifestError, match="expected a manifest of format version 1"):
        read_manifest(tmp_path / "a")


def test_digest_ignores_measurements(tmp_path):
    manifest = run(tmp_path / "a", [])
    assert manifest.model_copy(update={"metrics": {"seconds": 9}, "versions": {}}).digest == manifest.digest
    assert manifest.model_copy(update={"files": {}}).digest != manifest.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": {"item_count": "90"}}, r"item_count: Input should be a valid integer \(found '90'\)"),
        ({"metrics": {"precision": "fp64"}}, r"precision: .*\(found 'fp64'\)"),
        ({"metrics": []}, "metrics"),
        ({"settings": {"history_length": [1]}}, r"history_length: .*\(found \[1\]\)"),
        ({"files": {"result.txt": 3}}, "files"),
        ({"seed": "x"}, "seed"),
    ],
)
def test_manifest_with_values_of_wrong_types_is_refused_and_the_stage_runs_again(tmp_path, change, message):
    calls: list[str] = []
    first = run(tmp_path / "a", calls)
    path = tmp_path / "a" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ManifestError, match=rf"(?s)manifest\.json: expected a manifest .*{message}.*Run the stage again"):
        read_manifest(tmp_path / "a")
    assert run(tmp_path / "a", calls).digest == first.digest
    assert calls == ["a", "a"]


def test_missing_metric_is_an_error_of_the_manifest(tmp_path):
    manifest = run(tmp_path / "a", [])
    with pytest.raises(ManifestError, match=r"manifest\.json: found no 'item_count' in settings or metrics"):
        manifest.metrics["item_count"]


def test_manifest_that_is_a_folder_is_named(tmp_path):
    (tmp_path / "a" / "manifest.json").mkdir(parents=True)
    with pytest.raises(ManifestError, match=r"manifest\.json: cannot be read \(Is a directory\)"):
        read_manifest(tmp_path / "a")


def test_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "runs").write_text("a file where the folder of the runs should be")
    with pytest.raises(ManifestError, match=r"runs.*: cannot be written \(Not a directory\), expected a place for the results"):
        run(tmp_path / "runs" / "shop" / "data", [])


def test_read_only_folder_of_runs_is_named(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir(mode=0o555)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    run(Path("other"), [])  # reads the code, for its digest
    user = os.geteuid()
    os.seteuid(user or 65534)  # root writes anywhere
    try:
        with pytest.raises(
            ManifestError, match=r"runs.*: cannot be written \(Permission denied\), expected a place for the results"
        ):
            run(Path("runs") / "data", [])
    finally:
        os.seteuid(user)
