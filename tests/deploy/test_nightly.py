"""The script of every night, with a stand-in for distilrec that notes what it was asked to do; and what starts it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from distilrec.core.files import lock

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRIPT = DEPLOY / "nightly" / "nightly.sh"
ALL = {"EVENTS": "new.parquet", "ITEMS": "items.parquet", "REQUESTS": "requests"}


@pytest.fixture
def night(tmp_path):
    """Runs a night; the command whose name stands in ``fails`` ends with status 1. Returns the process and the commands."""
    command = tmp_path / "bin" / "distilrec"
    command.parent.mkdir()
    command.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ntest "$1" != "$FAILS" || exit 1\n'
        'test "$1" != update || echo "export: runs/shop/updated/export"\n'
    )
    command.chmod(0o755)
    (tmp_path / "shop.toml").touch()

    def run(fails="", **variables):
        (tmp_path / "calls").write_text("")
        environment = os.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}", "FAILS": fails} | variables
        done = subprocess.run([SCRIPT, "shop.toml"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done, (tmp_path / "calls").read_text().splitlines()

    return run


def test_a_night_refreshes_updates_and_promotes(night):
    done, calls = night(**ALL, URL="127.0.0.1:9001")
    assert done.returncode == 0, done.stderr
    assert calls == [
        "drift --preset shop.toml --requests requests",
        "refresh --preset shop.toml --items items.parquet --url=127.0.0.1:9001",
        "update --preset shop.toml --interactions new.parquet",
        "promote runs/shop/updated/export --preset shop.toml --url=127.0.0.1:9001",
    ]


@pytest.mark.parametrize(("step", "commands"), [("refresh", 2), ("update", 3), ("promote", 4)])
def test_a_failed_step_ends_the_night(night, step, commands):
    done, calls = night(fails=step, **ALL)
    assert done.returncode == 1
    assert f"step {step} failed with status 1; the former version serves on" in done.stderr
    assert len(calls) == commands


def test_what_is_not_given_is_left_out_and_drift_stops_nothing(night):
    done, calls = night(fails="drift", REQUESTS="requests", EVENTS="new.parquet", OFFLINE="1", REPOSITORY="/models")
    assert done.returncode == 0
    assert "drift was not measured" in done.stderr
    assert [call.split()[0] for call in calls] == ["drift", "update", "promote"]
    assert calls[-1].endswith("--preset shop.toml --repository=/models --offline")


def test_second_night_at_once_does_nothing(night, tmp_path):
    with lock(tmp_path / "shop.toml"):
        done, calls = night(**ALL)
    assert (done.returncode, calls) == (75, [])
    assert night(**ALL)[0].returncode == 0


def test_cron_systemd_and_kubernetes_start_the_same_script():
    cron = (DEPLOY / "nightly" / "crontab").read_text()
    service = (DEPLOY / "nightly" / "distilrec-nightly.service").read_text()
    (job,) = yaml.safe_load((DEPLOY / "kubernetes" / "nightly-cronjob.yaml").read_text())["spec"]["jobTemplate"]["spec"][
        "template"
    ]["spec"]["initContainers"]
    for starter in (cron, service, " ".join(job["command"])):
        assert re.search(r"/deploy/nightly/nightly\.sh shop\.toml", starter)
    (line,) = [line for line in cron.splitlines() if line and not line.startswith(("#", "PATH"))]
    assert re.match(r"(\S+ ){5}cd ", line)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_units(tmp_path):
    for unit in ("distilrec-nightly.service", "distilrec-nightly.timer"):
        text = (DEPLOY / "nightly" / unit).read_text()
        # The example's paths do not exist here.
        (tmp_path / unit).write_text(text.replace("/srv/distilrec/deploy/nightly/nightly.sh", str(SCRIPT)))
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))], capture_output=True, text=True, check=False
    )
    faults = [line for line in done.stderr.splitlines() if "distilrec-nightly" in line]
    assert not faults
