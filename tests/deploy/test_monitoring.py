"""What dashboard, alarms and autoscaler ask for is what a live server really exports."""

import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients import RecommenderClient
from distilrec.config import Config
from distilrec.core.errors import DistilRecError
from distilrec.data.vocabulary import FILE_NAME
from distilrec.serving.process.server import Ports, free_ports
from distilrec.serving.process.wheel import find_tritonserver
from export.repository.versions import version_folder

pytestmark = pytest.mark.server

DEPLOY = Path(__file__).parents[2] / "deploy"
QUERIES = (
    DEPLOY / "grafana" / "dashboards" / "distilrec.json",
    DEPLOY / "prometheus" / "alerts.yml",
    DEPLOY / "kubernetes" / "prometheus-adapter-values.yaml",
)
# Of the autoscaler, computed by its adapter.
DERIVED = {"nv_inference_queue_us_per_request"}
WATCHDOG = DEPLOY.parent / "distilrec" / "serving" / "health" / "watchdog.py"
REQUESTS = 20


def queried(prefix: str) -> set[str]:
    """Names of the metrics that any query uses."""
    return {name for path in QUERIES for name in re.findall(rf"\b{prefix}_\w+", path.read_text(encoding="utf-8"))} - DERIVED


def container_options() -> list[str]:
    """What the container gives the server beyond addresses, ports and paths."""
    command = (DEPLOY / "Dockerfile.cpu").read_text(encoding="utf-8").split("\nCMD ")[1]
    options = re.findall(r'"(--[\w-]+=?[^"]*)"', command)
    return [option for option in options if not re.search("address|port|repository", option)]


def read(ports: Ports) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{ports.metrics}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def metrics(shop_run: Path, shop_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The metrics page of a server with the container's options, after some requests."""
    assert shop_run.is_dir()
    repository, ports = shop_config.export.repository, free_ports()
    options = [f"--{name}-{what}" for name, port in vars(ports).items() for what in ("address=127.0.0.1", f"port={port}")]
    log = tmp_path_factory.mktemp("monitoring") / "tritonserver.log"
    with log.open("wb") as output:
        command = [*find_tritonserver(), f"--model-repository={repository}", *options, *container_options()]
        server = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        client = wait_for_client(f"127.0.0.1:{ports.grpc}", version_folder(repository) / FILE_NAME, server, log)
        with client:
            for _ in range(REQUESTS):
                client.recommend([], k=3)
        yield read(ports)
    finally:
        server.terminate()
        status = server.wait(40)
    assert status == 0


def wait_for_client(url: str, vocabulary: Path, server: subprocess.Popen[bytes], log: Path) -> RecommenderClient:
    deadline = time.monotonic() + 60
    while True:
        try:
            return RecommenderClient(url, vocabulary=vocabulary)
        except DistilRecError:
            running = server.poll() is None and time.monotonic() < deadline
            assert running, log.read_text(errors="replace")
            time.sleep(0.2)


def test_every_queried_metric_is_exported(metrics: str) -> None:
    exported = set(re.findall(r"^(nv_\w+)", metrics, re.M))

    wanted = queried("nv")
    assert len(wanted) >= 9
    assert wanted <= exported


def test_every_queried_metric_of_the_watchdog_is_one_of_its_names() -> None:
    names = re.findall(r"# TYPE (distilrec_watchdog_\w+)", WATCHDOG.read_text(encoding="utf-8"))

    assert len(names) == 8
    assert queried("distilrec_watchdog") <= set(names)


def test_every_queried_metric_of_drift_is_one_of_its_names() -> None:
    names = re.findall(r'"(distilrec_drift_\w+)"', (WATCHDOG.parent / "drift.py").read_text(encoding="utf-8"))

    assert len(names) == 5
    assert queried("distilrec_drift") <= set(names)


def test_labels_that_the_queries_select_by_are_there(metrics: str) -> None:
    assert f'nv_inference_request_success{{model="student",version="1"}} {REQUESTS}' in metrics
    assert set(re.findall(r'nv_inference_request_failure\{model="student",reason="(\w+)"', metrics)) >= {
        "CANCELED",
        "BACKEND",
        "OTHER",
    }
    quantiles = set(re.findall(r'nv_inference_request_summary_us\{model="student",version="1",quantile="([\d.]+)"\}', metrics))
    assert quantiles >= {"0.5", "0.95", "0.99"}
    assert re.search(r'nv_inference_queue_summary_us\{model="student",version="1",quantile="0.99"\} \d', metrics)
