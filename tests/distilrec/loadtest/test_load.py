"""``distilrec load`` against a real tritonserver."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from clients.connection import Connection
from distilrec.config import spec_of_run
from distilrec.loadtest.endpoint import examine
from distilrec.loadtest.run import measure
from distilrec.loadtest.settings import LoadSettings
from distilrec.loadtest.slo import parse_slo
from distilrec.serving.process.server import TritonServer, free_ports

pytestmark = pytest.mark.server


def command(*arguments):
    return [sys.executable, "-m", "distilrec", "load", "--processes", "2", *arguments]


def distilrec_load(*arguments):
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=120)


def settings_of(url, **changes):
    given = {"model": "student", "rate_per_s": 50.0, "concurrency": None, "duration_s": 2.0, "processes": 2,
             "timeout_s": 5.0, "zipf_exponent": 1.0, "seed": 0}  # fmt: skip
    return LoadSettings(connection=Connection(url), **given | changes)


def test_sizes_are_read_from_the_server(shop_server, shop_config):
    endpoint = examine(Connection(shop_server.url), "student", 5.0)
    assert endpoint.spec == spec_of_run(shop_config, endpoint.spec.item_count)
    assert (endpoint.backend, endpoint.model_version, endpoint.on_this_machine) == ("python", "1", True)
    assert endpoint.dynamic_batching


def test_open_loop(shop_server, tmp_path):
    output = tmp_path / "load.json"
    result = distilrec_load("--url", shop_server.url, "--rate", "50", "--duration-s", "2.5", "--json", "--output", str(output))
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert json.loads(output.read_text()) == found
    assert shop_server.url not in result.stdout
    assert found["settings"] == {
        "loop": "open", "rate_per_s": 50, "concurrency": None, "duration_s": 2.5, "processes": 2, "timeout_s": 5,
        "zipf_exponent": 1,
    }  # fmt: skip
    assert found["model"]["name"] == "student"
    assert found["model"]["history_length"] == 12
    assert found["machine"]["cores"] >= 1
    assert {"grpcio", "tritonclient", "numpy", "distilrec"} <= found["versions"].keys()
    load = found["result"]
    assert load["errors"] == {}
    assert load["requests"]["due"] == load["requests"]["answered"] > 80
    assert load["achieved_rate_per_s"] == pytest.approx(load["requests"]["answered"] / 2.5, rel=0.2)
    latency = load["latency"]
    assert 0 < latency["p50_ms"] <= latency["p90_ms"] <= latency["p99_ms"] <= latency["max_ms"]
    assert latency["p99_9_ms"] is None  # of so few answers it cannot be measured
    assert isinstance(load["client_bottleneck"], bool)
    assert load["client_bottleneck_reason"]


def test_closed_loop(shop_server):
    result = distilrec_load("--url", shop_server.url, "--closed", "--concurrency", "4", "--duration-s", "2")
    assert result.returncode == 0, result.stderr
    assert "closed loop" in result.stdout
    assert "errors: none" in result.stdout
    assert "latency from the sending: p50 " in result.stdout


def test_search_ends_with_a_rate_that_holds_and_one_that_fails(shop_server):
    # A goal that no server can break nor a slow one hold: the bounds are the search's own.
    found = measure(settings_of(shop_server.url, duration_s=0.5, slo=parse_slo("p50<10s"), probes=2))["search"]
    assert found["highest_rate_held_per_s"] == 100
    assert [probe["slo_held"] for probe in found["probes"]] == [True, True]
    impossible = measure(settings_of(shop_server.url, duration_s=0.5, slo=parse_slo("p50<1us"), probes=2))["search"]
    assert impossible["highest_rate_held_per_s"] is None
    assert impossible["lowest_rate_failed_per_s"] == 25


def test_no_server():
    port = free_ports().grpc
    result = distilrec_load("--url", f"127.0.0.1:{port}")
    assert result.returncode == 1
    assert f"distilrec: 127.0.0.1:{port}, model 'student': no server answers" in result.stderr
    assert "distilrec serve" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nothing", "model 'nothing': the server does not serve this model"),
        ("recommend", "model 'recommend': found the tensors history STRING"),
    ],
)
def test_wrong_model(shop_server, model, message):
    result = distilrec_load("--url", shop_server.url, "--model", model)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "0"], "--rate: found 0, expected 0.01 to 1e+06"),
        (["--slo", "p98<10ms"], "--slo: found 'p98<10ms', expected one of p50,"),
        (["--closed", "--rate", "5"], "found --rate with --closed"),
        (["--concurrency", "5"], "found --concurrency without --closed"),
        (["--output", "/nowhere/load.json"], "--output: found no folder /nowhere"),
    ],
)
def test_wrong_arguments_are_reported_before_any_load(arguments, message):
    result = distilrec_load(*arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_interrupted_load_says_what_it_measured(shop_server):
    process = subprocess.Popen(
        command("--url", shop_server.url, "--rate", "50", "--duration-s", "60", "--json"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    line = process.stderr.readline()  # progress: the load is under way
    os.killpg(process.pid, signal.SIGINT)  # the client processes, too, as Ctrl-C in a terminal does
    output, errors = process.communicate(timeout=60)
    assert "answered, 0 failed" in line
    assert process.returncode == 130
    found = json.loads(output)
    assert found["interrupted"]
    assert found["result"]["errors"] == {}
    assert 0 < found["result"]["requests"]["answered"] < 50 * 50
    assert "Traceback" not in errors


@pytest.mark.usefixtures("shop_run")
def test_server_killed_meanwhile_is_counted_by_kind(shop_config, tmp_path):
    with TritonServer(shop_config.export.repository, free_ports(), tmp_path / "log") as server:
        killer = threading.Thread(target=lambda: (time.sleep(6), os.killpg(server.pid, signal.SIGKILL)))
        killer.start()
        result = measure(settings_of(server.url, duration_s=10.0, timeout_s=1.0))["result"]
        killer.join()
    assert result["requests"]["answered"] > 0
    assert result["errors"].get("UNAVAILABLE", 0) > 0
    assert result["errors"].keys() <= {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL"}
    assert result["requests"]["failed"] == sum(result["errors"].values())
    assert result["requests"]["due"] == result["requests"]["answered"] + result["requests"]["failed"]
