"""An artefact goes to a stand-in of the Hugging Face hub and comes back whole; tests/support/hub.py has its API."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w
from hub import TOKEN, hub

from distilrec.core.manifest import read_manifest
from distilrec.pipeline.finished import exported_student, served_artefact


@pytest.fixture
def asked(shop_config, shop_run, tmp_path, monkeypatch):
    """Runs a command with the stand-in as its hub."""
    monkeypatch.chdir(shop_run.parents[1])
    settings = tmp_path / "shop.toml"
    settings.write_text(tomli_w.dumps(shop_config.model_dump(mode="json", exclude_none=True)))
    with hub() as state:
        environment = {**os.environ, "HF_ENDPOINT": state.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "cache")}

        def ask(*arguments, **changed):
            command = [sys.executable, "-m", "distilrec", *map(str, arguments)]
            return subprocess.run(command, env=environment | changed, capture_output=True, text=True, check=False)

        yield state, ask, settings


def test_pushed_artefact_comes_back_whole(asked, shop_config, tmp_path):
    state, ask, settings = asked
    pushed = ask("push", "me/shop", "--preset", settings)
    assert pushed.stdout == f"pushed: {state.url}/me/shop/commit/{state.sha('me/shop')}\n", pushed.stderr
    assert state.private["me/shop"]
    files = dict(state.files("me/shop", "main"))
    assert files["README.md"] == (exported_student(shop_config) / "README.md").read_bytes()
    state.commits["me/shop"][-1] |= {"export/left-over.bin": b"of an earlier export", "notes.md": b"mine"}
    assert ask("push", "me/shop", "--preset", settings).returncode == 0
    assert set(state.files("me/shop", "main")) == {*files, "notes.md"}
    out = tmp_path / "pulled"
    pulled = ask("pull", "me/shop", "--out", out, HF_TOKEN="")
    assert pulled.stdout.splitlines()[0] == f"pulled: {out}", pulled.stderr
    artefact = served_artefact(shop_config)
    assert read_manifest(out).digest == read_manifest(artefact).digest
    names = {path.relative_to(artefact) for path in artefact.rglob("*") if path.is_file()}
    assert {path.relative_to(out) for path in out.rglob("*") if path.is_file()} == names


def test_damaged_artefact_does_not_replace_the_former_one(asked, tmp_path):
    state, ask, settings = asked
    assert ask("push", "me/shop", "--preset", settings).returncode == 0
    out = tmp_path / "pulled"
    assert ask("pull", "me/shop", "--out", out).returncode == 0
    before = read_manifest(out).digest
    state.commits["me/shop"][-1]["export/vocabulary.json"] += b" "
    refused = ask("pull", "me/shop", "--out", out)
    assert refused.returncode == 1
    assert "vocabulary.json" in refused.stderr
    assert read_manifest(out).digest == before
    assert not list(tmp_path.glob("pulled.*"))
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    assert ask("pull", "me/shop", "--out", other).returncode == 1
    assert (other / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "changed", "message"),
    [
        (("pull", "me/nothing", "--out", "here"), {}, "me/nothing: the hub could not be used"),
        (("push", "me/shop", "--preset"), {"HF_TOKEN": "wrong"}, "the token"),
        (("push", "me/shop", "--preset"), {"HF_ENDPOINT": "http://127.0.0.1:9"}, "HF_ENDPOINT"),
    ],
)
def test_hub_that_refuses_is_explained(asked, arguments, changed, message):
    _, ask, settings = asked
    done = ask(*arguments, *([settings] if arguments[0] == "push" else []), **changed)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("here").exists()
