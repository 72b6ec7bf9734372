"""Containers, dashboards and manifests against the real schemas and parsers. Nothing here starts a container or asks a network."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML (extra [dev]) reads the manifests")

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "distilrec.json"
DOCKERFILES = sorted(path for path in DEPLOY.glob("Dockerfile.*") if path.suffix != ".dockerignore")
KUBERNETES = sorted(path for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.stem != "prometheus-adapter-values")
TRAINING = sorted((DEPLOY / "kubernetes" / "training").glob("*.yaml"))
KSERVE = sorted((DEPLOY / "kserve").glob("*.yaml"))
PROMETHEUS = DEPLOY / "prometheus"
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed; on Debian and Ubuntu: apt-get install prometheus"
)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def tool(name: str) -> str:
    """A command of this environment, or of PATH; the test is skipped where there is neither."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (extra [dev])")
    return found


def run(*command: str | Path, cwd: Path = DEPLOY) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def dashboard_expressions() -> list[str]:
    """Every query of the dashboard, with Grafana's variables filled in."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [entry["expr"] for entry in dashboard["annotations"]["list"]]
    return [query.replace("$__rate_interval", "1m").replace("$model", ".*") for query in queries]


def alarm_rules() -> list[dict[str, Any]]:
    """Every alarm."""
    files = [PROMETHEUS / "alerts.yml", DEPLOY / "kubernetes" / "alerts.yml"]
    return [rule for path in files for group in load(path)["groups"] for rule in group["rules"]]


def rule_expressions() -> list[str]:
    """Every query of the alarms and of the autoscaler, with the adapter's templates filled in."""
    alarms = [rule["expr"] for rule in alarm_rules()]
    adapter = load(DEPLOY / "kubernetes" / "prometheus-adapter-values.yaml")["rules"]["custom"]
    templates = {"<<.LabelMatchers>>": 'namespace="shop"', "<<.GroupBy>>": "pod"}
    scaling = [rule["metricsQuery"] for rule in adapter] + [rule["seriesQuery"] for rule in adapter]
    return alarms + [re.sub("|".join(map(re.escape, templates)), lambda found: templates[found[0]], query) for query in scaling]


def test_deploy_files_are_found() -> None:
    assert len(DOCKERFILES) == 2
    assert len(KUBERNETES) == 6
    assert len(KSERVE) == 2
    assert len(TRAINING) == 2


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfile_has_nothing_to_complain_about(path: Path) -> None:
    run(tool("hadolint"), "--no-color", path)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfile_probes_with_an_inference_and_publishes_grpc_only(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert re.findall(r"^EXPOSE (.*)$", text, re.M) == ["8001"]
    assert re.search(r'^HEALTHCHECK .*\\\n +CMD \["distilrec", "recommend"', text, re.M)
    assert '"--allow-http=false"' in text
    assert re.findall(r"^USER (.*)$", text, re.M)[-1] not in ("root", "0", "0:0")
    assert "ORT_DISABLE_TELEMETRY=1" in text
    assert (path.parent / f"{path.name}.dockerignore").is_file()


def test_compose_file_fits_the_compose_schema() -> None:
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "compose.yaml")


def test_compose_publishes_neither_http_nor_metrics() -> None:
    services = load(DEPLOY / "compose.yaml")["services"]

    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert sorted(port.rsplit(":", 1)[1] for port in ports) == ["3000", "8001", "9090"]
    assert all(port.startswith(("127.0.0.1:", "${DISTILREC_BIND:-127.0.0.1}:")) for port in ports)


def test_compose_mounts_exist() -> None:
    services = load(DEPLOY / "compose.yaml")["services"]

    for service in services.values():
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume).split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), volume


@pytest.mark.parametrize("path", [*KUBERNETES, *TRAINING], ids=lambda path: path.name)
def test_kubernetes_object_fits_the_kubernetes_schema(path: Path) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is in the extra [dev]")

    kubernetes_validate.validate(load(path), kubernetes_validate.latest_version(), strict=True)


def test_kserve_containers_fit_the_kubernetes_schema() -> None:
    # KServe's own resources are in no schema package; their containers and volumes are Kubernetes' own.
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is in the extra [dev]")
    runtime = load(DEPLOY / "kserve" / "servingruntime.yaml")
    spec = {key: runtime["spec"][key] for key in ("containers", "volumes")}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": spec}

    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


def test_kserve_service_uses_the_runtime_beside_it() -> None:
    runtime, service = load(DEPLOY / "kserve" / "servingruntime.yaml"), load(DEPLOY / "kserve" / "inferenceservice.yaml")
    model = service["spec"]["predictor"]["model"]

    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] in [entry["name"] for entry in runtime["spec"]["supportedModelFormats"]]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]


def servers() -> list[dict[str, Any]]:
    """The containers that run tritonserver."""
    deployment = load(DEPLOY / "kubernetes" / "deployment.yaml")["spec"]["template"]["spec"]["containers"]
    kserve = load(DEPLOY / "kserve" / "servingruntime.yaml")["spec"]["containers"]
    return [
        container for container in deployment + kserve if any("--model-repository" in each for each in container.get("args", []))
    ]


def test_init_container_checks_the_repository(tmp_path: Path) -> None:
    containers = load(DEPLOY / "kubernetes" / "deployment.yaml")["spec"]["template"]["spec"]["initContainers"]
    (command,) = [container["command"] for container in containers if container["name"] == "check"]
    python, option, code = command

    assert (python, option) == ("python3", "-c")
    done = subprocess.run(
        [sys.executable, "-c", code.replace("/models", str(tmp_path))], capture_output=True, text=True, check=False
    )
    assert f"ServerError: {tmp_path}: found no {tmp_path / 'student' / 'config.pbtxt'}" in done.stderr


def test_every_probe_is_an_inference() -> None:
    assert len(servers()) == 2
    for container in servers():
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["exec"]["command"][:2] == ["distilrec", "recommend"]


def unknown_options(command: list[str]) -> set[str]:
    """Options that the command line does not have."""
    from typer.main import get_command

    from distilrec.cli.app import app

    subcommand = get_command(app).commands[command[1]]
    return {each.split("=")[0] for each in command if each.startswith("--")} - {
        name for each in subcommand.params for name in each.opts
    }


def test_probes_use_options_that_the_command_has() -> None:
    for container in servers():
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert unknown_options(container[probe]["exec"]["command"]) == set()
    for path in DOCKERFILES:
        found = re.search(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", path.read_text(encoding="utf-8"), re.M)
        assert found is not None
        assert unknown_options(json.loads(found[1])) == set()


def test_compose_uses_options_that_serve_has() -> None:
    assert unknown_options(load(DEPLOY / "compose.yaml")["services"]["server"]["entrypoint"]) == set()


def test_every_server_is_locked_down() -> None:
    for container in servers():
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert "--allow-http=false" in container["args"]
        # model-config stays open: clients read the vocabulary's sha256 there.
        assert any(each.startswith("--grpc-restricted-protocol=model-repository,shared-memory,") for each in container["args"])
        assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]


def test_autoscaler_asks_for_the_metric_that_the_adapter_serves() -> None:
    scaler = load(DEPLOY / "kubernetes" / "horizontalpodautoscaler.yaml")
    adapter = load(DEPLOY / "kubernetes" / "prometheus-adapter-values.yaml")

    wanted = [entry["pods"]["metric"]["name"] for entry in scaler["spec"]["metrics"] if entry["type"] == "Pods"]
    assert wanted == [rule["name"]["as"] for rule in adapter["rules"]["custom"]]


@pytest.mark.parametrize("expression", [*dashboard_expressions(), *rule_expressions()])
def test_promql_can_be_parsed(expression: str) -> None:
    promql_parser = pytest.importorskip("promql_parser", reason="promql-parser is in the extra [dev]")

    promql_parser.parse(expression)


@needs_promtool
def test_prometheus_accepts_configuration_and_rules() -> None:
    run("promtool", "check", "config", "prometheus.yml", cwd=PROMETHEUS)
    run("promtool", "check", "rules", "alerts.yml", "../kubernetes/alerts.yml", cwd=PROMETHEUS)


@needs_promtool
def test_alarms_fire_on_their_own_trouble_only() -> None:
    run("promtool", "test", "rules", "alerts_test.yml", cwd=PROMETHEUS)


@needs_promtool
def test_prometheus_accepts_the_dashboard_and_the_adapter_rule(tmp_path: Path) -> None:
    rules = [
        {"record": f"probe:{place}", "expr": expression}
        for place, expression in enumerate(dashboard_expressions() + rule_expressions())
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")

    run("promtool", "check", "rules", "rules.yml", cwd=tmp_path)


def test_dashboard_uses_the_provisioned_data_source() -> None:
    sources = load(DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]

    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"] for source in sources}
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_prometheus_scrapes_the_loopback_that_it_shares_with_the_server() -> None:
    services = load(DEPLOY / "compose.yaml")["services"]
    jobs = load(PROMETHEUS / "prometheus.yml")["scrape_configs"]

    targets = {target for job in jobs for entry in job["static_configs"] for target in entry["targets"]}
    assert targets == {"127.0.0.1:8002", "127.0.0.1:8003"}
    assert "--watchdog-port=8003" in services["server"]["entrypoint"]
    assert services["server"]["network_mode"] == services["prometheus"]["network_mode"] == "service:network"


def test_ngc_image_defaults_to_a_release_that_clients_cannot_end() -> None:
    found = re.search(r"^ARG TRITON_RELEASE=(\d+)\.(\d+)$", (DEPLOY / "Dockerfile.ngc").read_text(encoding="utf-8"), re.M)
    assert found
    assert (int(found[1]), int(found[2])) >= (24, 12)


def test_every_alarm_is_explained() -> None:
    headings = re.findall(r"^#+ (.*)$", (ROOT / "OPERATIONS.md").read_text(encoding="utf-8"), re.M)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for rule in alarm_rules():
        page, anchor = rule["annotations"]["runbook"].split("#")
        assert page == "OPERATIONS.md"
        assert anchor == rule["alert"].lower()
        assert anchor in anchors
