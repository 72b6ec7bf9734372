"""The comparison with peers on the tiny shop: all forms of the student are measured, a missing peer is reported as missing."""

import importlib.util

import pytest

from benchmarks.peers import __main__ as peers
from benchmarks.peers.contenders import ComparisonSetup
from benchmarks.peers.measure import MAKERS, REFERENCE, measure
from benchmarks.peers.table import peers_table
from distilrec.config import spec_of_run
from distilrec.data import stage as data_stage

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def measured(shop_run, shop_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers")
    dataset, vocabulary = data_stage.load(shop_run / "data")
    spec = spec_of_run(shop_config, len(vocabulary))
    with pytest.MonkeyPatch.context() as patch, peers._server(shop_run / "export", shop_config, folder) as (url, fault):
        patch.chdir(shop_run.parents[1])
        assert fault is None
        peers._write_inputs(shop_config, dataset, spec, folder)
        setup = ComparisonSetup(folder, url, spec.item_count, spec.top_k, factors=8)
        setup.write(folder / "setup.json")
        return measure(ComparisonSetup.read(folder / "setup.json"), rounds=2, requests=3)


def test_every_form_of_the_student_agrees_and_is_timed(measured):
    """``measure`` itself holds the top 10 of all of them against ONNX Runtime's."""
    ours = {name: row for name, row in measured["contenders"].items() if name.startswith("student")}
    assert len(ours) == 4
    for name, row in ours.items():
        assert row.get("ratio", 0) > 0, (name, row)
    assert ours[REFERENCE]["ratio"] == 1
    assert measured["all_scores_to_top_k_over_the_wire"] > 0


def test_peer_that_is_not_there_is_never_a_number(measured):
    assert list(measured["contenders"]) == list(MAKERS)
    for package, peer in (("recbole", "RecBole"), ("implicit", "implicit")):
        if importlib.util.find_spec(package) is None:
            rows = [row for name, row in measured["contenders"].items() if name.startswith(peer)]
            assert rows
            assert all(row == {"not_measured": f"ModuleNotFoundError: No module named '{package}'"} for row in rows), rows
    table = peers_table(measured | {"model": {"item_count": 88}, "server_fault": None})
    assert "not measured" in table
