"""Weights of training examples by a density ratio: what they are, and that students learn by them."""

import numpy as np
import pytest

from distill.models.weights import WEIGHTS
from distill.stages import student
from distill.training.domain import auc, domain_weights
from distilrec.config import Config, DomainConfig
from distilrec.core.errors import DataError
from distilrec.core.manifest import read_manifest
from distilrec.data.dataset import Dataset

ITEMS = 40
DOMAIN = DomainConfig(attribute="shop", target="nl")


def shop(random, users, genres):
    """Histories of 8 items of one of two genres each; returns them and the genre of each user."""
    of_user = random.choice(2, users, p=genres)
    return [random.choice(ITEMS // 2, 8) + 1 + genre * (ITEMS // 2) for genre in of_user], of_user


def dataset_of(histories):
    offsets = np.arange(len(histories) + 1) * 8
    ends = np.full(len(histories), 8)
    return Dataset(np.concatenate(histories).astype(np.int32), offsets, ends, ends, ITEMS)


def test_weights_are_the_ratio_of_the_densities():
    """The target reads genre 0 three times as often as elsewhere (75 % and 25 %), and genre 1 a third as often."""
    random = np.random.default_rng(0)
    target, _ = shop(random, 400, [0.75, 0.25])
    others, genre = shop(random, 1200, [0.25, 0.75])
    found = domain_weights(dataset_of(target + others), {"shop": ("nl",) * 400 + ("de",) * 1200}, DOMAIN, seed=0)
    assert np.unique(found.of_user[:400]).tolist() == [1.0]
    weights = found.of_user[400:]
    assert weights.mean() == pytest.approx(1, abs=1e-3)
    ratio = weights[genre == 0].mean() / weights[genre == 1].mean()
    assert ratio == pytest.approx(9, rel=0.35)
    assert found.auc == pytest.approx(0.75, abs=0.04)
    assert 300 < found.effective_users < 1200


def test_equal_domains_weigh_all_alike():
    random = np.random.default_rng(1)
    histories, _ = shop(random, 1200, [0.5, 0.5])
    found = domain_weights(dataset_of(histories), {"shop": ("nl",) * 300 + ("de",) * 900}, DOMAIN, seed=0)
    assert found.auc == pytest.approx(0.5, abs=0.1)  # the two samples differ by chance, too
    assert found.of_user.std() < 0.35


def test_auc_is_the_share_of_ordered_pairs():
    scores, positive = np.array([0.1, 0.4, 0.4, 0.8, 0.2]), np.array([False, True, False, True, False])
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    assert auc(scores, positive) == pytest.approx(np.mean(pairs))


def test_few_users_of_the_target_are_an_error():
    histories, _ = shop(np.random.default_rng(2), 60, [0.5, 0.5])
    with pytest.raises(DataError, match="found 3 users whose shop is 'nl' and 57 others"):
        domain_weights(dataset_of(histories), {"shop": ("nl",) * 3 + ("de",) * 57}, DOMAIN, seed=0)


def with_domain(config, **domain):
    return Config.model_validate(config.model_dump() | {"student": config.student.model_dump() | {"domain": domain}})


@pytest.mark.pipeline
@pytest.mark.parametrize("distilled", [True, False])
def test_students_learn_by_the_weights(shop_run, shop_config, tmp_path, distilled):
    inputs = {"data": shop_run / "data", "text": shop_run / "text"}
    if distilled:
        inputs["targets"] = next(shop_run.glob("targets-*"))
    config = with_domain(shop_config, attribute="plan", target="paid")
    manifest = student.run(config, inputs, tmp_path / "student")
    assert manifest.metrics["domain"]["target_users"] == 80
    assert manifest.settings["domain"]["attribute"] == "plan"
    plain = read_manifest(shop_run / ("student" if distilled else "student-undistilled"))
    assert "domain" not in plain.settings
    assert plain.files[WEIGHTS].sha256 != manifest.files[WEIGHTS].sha256


def test_settings_say_what_is_wrong_with_a_domain(shop_config):
    with pytest.raises(
        ValueError, match=r"student\.domain\.attribute: found 'shop', expected one of data\.attributes \(plan, age\)"
    ):
        with_domain(shop_config, attribute="shop", target="nl")
