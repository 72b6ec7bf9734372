"""Which releases of tritonserver are said to be at risk."""

import pytest

from distilrec.serving.process.releases import risk


@pytest.mark.parametrize("version", ["2.51.0", "2.52.0", "1.99.0"])
def test_release_before_the_mend_has_a_named_risk(version):
    assert f"tritonserver {version} can be ended by any client" in risk(version)


@pytest.mark.parametrize("version", ["2.53.0", "2.69.0", "3.0.0"])
def test_release_with_the_mend_has_no_known_risk(version):
    assert risk(version) is None


def test_version_that_cannot_be_read_is_said():
    assert "'dev', expected numbers" in risk("dev")
