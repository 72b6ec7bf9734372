"""Promotion and export, killed at random moments: the running server and the next start are healthy, and nothing is left over.

``DISTILREC_KILL_MOMENTS=20`` kills each at 20 moments instead of 2, and prints where they fell.
"""

import os

import numpy as np
import pytest
from kills import EXPORT, PROMOTE, check_live, check_restart, killed, leftovers, rehearsals

from distilrec.core.golden import load_golden
from distilrec.serving.process.rehearsal_folder import end_interrupted_rehearsal
from distilrec.serving.rollout.settling import settle
from export.repository.locks import locked
from export.repository.models import MODELS
from export.repository.versions import served_version

MOMENTS = int(os.environ.get("DISTILREC_KILL_MOMENTS", "2"))


@pytest.mark.parametrize("command", [PROMOTE, EXPORT], ids=["promote", "export"])
def test_command_killed_at_any_moment(command, variant, serving_config, promotable, shop_run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "state"))
    repository, names, artefacts = serving_config.repository, [model.name for model in MODELS], [variant(1), variant(2)]
    goldens = {str(path): load_golden(path / "golden.npz") for path in (shop_run / "export", *artefacts)}
    _, whole_s = killed(command, artefacts[0], repository, promotable, after_s=300)
    random, kills, states = np.random.default_rng(0), 0, []
    for moment in range(MOMENTS):
        after_s = whole_s * (moment + random.random()) / MOMENTS  # one in each part of the command's time
        was_killed, _ = killed(command, artefacts[(moment + 1) % 2], repository, promotable, after_s)
        kills += was_killed
        check_live(promotable, goldens)
        check_restart(repository, tmp_path / "restart.log", goldens)
        with locked(repository):  # what the next command does first
            end_interrupted_rehearsal(repository)
            journal = settle(repository, names, promotable, states.append)
        assert len({served_version(repository, name) for name in names}) == 1
        assert (leftovers(repository), rehearsals()) == ([], [])
        check_live(promotable, goldens)
        states.append(f"{after_s:.2f} of {whole_s:.2f} s: {'killed' if was_killed else 'done'}, {len(journal.versions)} versions")
    print("\n".join(states))
    assert kills >= MOMENTS * 0.75
    killed(command, artefacts[0], repository, promotable, after_s=300)
    assert (leftovers(repository), rehearsals()) == ([], [])
