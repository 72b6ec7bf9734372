"""Promotion that stops for a person's approval, and what the journal keeps of it."""

import json
import time

import pytest
from artefacts import record
from golden_load import Load

from distilrec.core.golden import load_golden
from distilrec.evaluation.ranking_record import load_record
from distilrec.serving.rollout.approval import approve, reject
from distilrec.serving.rollout.live import ready_versions
from distilrec.serving.rollout.live_checks import Limits
from distilrec.serving.rollout.promotion import PromotionError, promote, rollback, versions
from export.repository.fill import is_filled
from export.repository.versions import served_version


def wait(artefact, config, server=None, **options):
    return promote(artefact, config.repository, config, server, approval="required", **options)


def test_version_waits_until_it_is_approved(shop_run, serving_config):
    repository = serving_config.repository
    plain = promote(shop_run / "export", repository, serving_config, None).version
    assert "review" not in (repository / "versions.json").read_text()  # journals without approval stay as they were
    done = wait(shop_run / "export", serving_config)
    assert (done.version, done.former) == (3, plain)
    assert served_version(repository) == plain
    assert wait(shop_run / "export", serving_config).version == done.version  # twice does nothing twice
    assert approve(repository, done.version, None, by="Ada", note="as planned").version == done.version
    entry = json.loads((repository / "versions.json").read_text())["versions"][-1]
    assert (entry["state"], entry["review"]["decision"], entry["review"]["by"]) == ("serving", "approved", "Ada")
    assert entry["review"]["note"] == "as planned"
    assert is_filled(repository)


def test_page_shows_changes_slices_and_stated_verdicts(shop_run, serving_config, variant):
    artefact = variant(3)
    report = json.loads((artefact / "report.json").read_text())
    report["forgetting"] = {"reason": "on old users it lost 0.0012 <of> 0.1", "old": {"difference": -0.0012}}
    (artefact / "report.json").write_text(json.dumps(report))
    record(artefact)
    (artefact.parent / "data").symlink_to(shop_run / "data")
    (serving_config.repository / "drift.json").write_text(json.dumps({"reason": "no drift", "psi": {"popularity": 0.01}}))
    page = wait(artefact, serving_config).review.read_text()
    for expected in ("on old users it lost 0.0012 &lt;of&gt; 0.1", "old.difference", "-0.0012", "psi.popularity", "short history"):
        assert expected in page
    assert "Side by side" in page
    assert "Not compared" not in page
    assert "distilrec approve 2 --by NAME" in page


def test_rejected_version_leaves_nothing_but_the_journal(shop_run, serving_config):
    repository = serving_config.repository
    before = {path.relative_to(repository) for path in repository.rglob("*")}
    done = wait(shop_run / "export", serving_config)
    with pytest.raises(PromotionError, match="found no name"):
        reject(repository, done.version, None, by=" ")
    reject(repository, done.version, None, by="Ada", note="loses new users")
    after = {path.relative_to(repository) for path in repository.rglob("*")}
    assert {str(path) for path in after - before} <= {"versions.json", "versions.lock"}
    assert versions(repository)[-1].reason == "rejected by Ada: loses new users"
    with pytest.raises(PromotionError, match=r"version 2 rejected, expected one that waits for approval \(none does\)"):
        approve(repository, done.version, None, by="Ada")


def test_newer_version_takes_the_place_of_one_that_waits(shop_run, serving_config, variant):
    wait(shop_run / "export", serving_config)
    assert wait(variant(1), serving_config).version == 3
    states = {entry.number: entry.state for entry in versions(serving_config.repository)}
    assert states == {1: "serving", 2: "rejected", 3: "waiting"}
    assert not (serving_config.repository / "student" / "2").exists()


def test_review_of_another_served_version_approves_nothing(shop_run, serving_config, variant):
    waiting = wait(shop_run / "export", serving_config).version
    promote(variant(1), serving_config.repository, serving_config, None)
    with pytest.raises(PromotionError, match="reviewed against version 1, but version 3 serves now"):
        approve(serving_config.repository, waiting, None, by="Ada")
    rollback(serving_config.repository, None)
    with (serving_config.repository / "student" / str(waiting) / "model.onnx").open("r+b") as file:
        file.truncate(500)
    with pytest.raises(PromotionError, match=r"version 2 was refused(?s:.*)Version 1 stays pinned"):
        approve(serving_config.repository, waiting, None, by="Ada")
    assert versions(serving_config.repository)[1].state == "waiting"


def test_approval_in_a_running_server_fails_no_request(shop_run, serving_config, promotable, variant):
    artefact = variant(5)
    expected = {1: load_golden(shop_run / "export" / "golden.npz"), 2: load_golden(artefact / "golden.npz")}
    with Load(promotable.url, expected) as load:
        wait(artefact, serving_config, promotable)
        assert ready_versions(promotable, "student") == {1}
        done = approve(serving_config.repository, 2, promotable, by="Ada", limits=Limits(watch_s=0.3, max_p99_ms=2000))
        time.sleep(0.3)
    assert (load.failed, load.wrong, load.seen) == ([], [], {1, 2})
    assert done.version == served_version(serving_config.repository) == 2
    assert load_record(serving_config.repository / "student" / "2" / "ranking.json") is not None
