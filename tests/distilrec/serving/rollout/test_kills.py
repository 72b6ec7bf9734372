"""Promotion and export, killed at random moments: the running server and the next start are healthy, and nothing is left over.

``DISTILREC_KILL_MOMENTS=20`` kills each at 20 moments instead of one, and prints where they fell.
"""

import os

import pytest
from kills import EXPORT, PROMOTE, check_live, check_restart, leftovers, moments, rehearsals, run

from distilrec.core.golden import load_golden
from distilrec.serving.process.rehearsal_folder import end_interrupted_rehearsal
from distilrec.serving.rollout.settling import settle
from export.repository.locks import locked
from export.repository.models import MODELS
from export.repository.versions import served_version

MOMENTS = int(os.environ.get("DISTILREC_KILL_MOMENTS", "1"))


@pytest.mark.parametrize("command", [PROMOTE, EXPORT], ids=["promote", "export"])
def test_command_killed_at_any_moment(command, variant, serving_config, promotable, shop_run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "state"))
    repository, names, artefacts = serving_config.repository, [model.name for model in MODELS], [variant(1), variant(2)]
    goldens = {str(path): load_golden(path / "golden.npz") for path in (shop_run / "export", *artefacts)}
    steps_s, log = run(command, artefacts[0], repository, promotable), []
    for moment, kill_at in enumerate(moments(steps_s, MOMENTS, seed=0)):
        run(command, artefacts[(moment + 1) % 2], repository, promotable, kill_at)
        check_live(promotable, goldens)
        check_restart(repository, tmp_path / "restart.log", goldens)
        log.append(f"killed {kill_at[1]:.2f} s after step {kill_at[0]} of {len(steps_s)}")
        with locked(repository):  # what the next command does first
            end_interrupted_rehearsal(repository)
            settle(repository, names, promotable, log.append)
        assert len({served_version(repository, name) for name in names}) == 1
        assert (leftovers(repository, promotable), rehearsals()) == ([], [])
        check_live(promotable, goldens)
    print("\n".join(log))
    run(command, artefacts[0], repository, promotable)
    assert leftovers(repository, promotable) == []
