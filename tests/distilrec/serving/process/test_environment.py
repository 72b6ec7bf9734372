"""What a start finds and leaves: shared memory of dead servers, incomplete models, taken ports."""

import mmap
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from distilrec.core.errors import ServerError
from distilrec.serving.process.control import ModelControl
from distilrec.serving.process.environment import check_ports, region_prefix, remove_leftovers
from distilrec.serving.process.processes import living
from distilrec.serving.process.security import ControlSecret
from distilrec.serving.process.server import Ports, TritonServer, free_ports
from export.repository.fill import fill_repository

pytestmark = pytest.mark.server

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def repository(shop_run, shop_config, tmp_path):
    config = shop_config.export.model_copy(update={"repository": tmp_path / "repo"})
    fill_repository(shop_run / "export", config)
    return config.repository


def prefix_of(server: TritonServer) -> str:
    """Prefix of this server's regions; beside it, other tests' servers have their own."""
    command = Path(f"/proc/{server.pid}/cmdline").read_text()
    return re.search(r"shm-region-prefix-name=(\w+)", command)[1]


def regions(prefix: str) -> set[str]:
    return {path.name for path in SHARED_MEMORY.glob(f"{prefix}*")}


def make_old(names: set[str]) -> None:
    for name in names:
        os.utime(SHARED_MEMORY / name, (1, 1))


def test_leftovers_of_a_killed_server_are_removed_at_the_next_start(repository, tmp_path, caplog):
    server = TritonServer(repository, free_ports(), tmp_path / "log")
    prefix = prefix_of(server)
    ours = regions(prefix)
    assert ours
    assert prefix.startswith(region_prefix())
    make_old(ours)
    assert not ours & set(remove_leftovers())  # in use
    # Model processes that live clean up after their server; so all of them are killed, as the kernel does when memory is short.
    for pid in (*living(server.pid), server.pid):
        os.kill(pid, signal.SIGKILL)
    assert server.wait() == -signal.SIGKILL
    left = regions(prefix)
    assert left
    make_old(left)
    with caplog.at_level("INFO"), TritonServer(repository, free_ports(), tmp_path / "log"):
        assert not regions(prefix)
    lines = [record.message for record in caplog.records if "shared memory" in record.message]
    assert len(lines) == 1
    assert lines[0].startswith("removed ")
    server.stop()


def test_young_used_and_other_peoples_regions_stay():
    names = [f"{region_prefix()}test-{kind}-{os.getpid()}" for kind in ("young", "used", "dead")]
    other = f"somebody_test-{os.getpid()}"
    paths = [SHARED_MEMORY / name for name in (*names, other)]
    try:
        for path in paths:
            path.write_bytes(b"\0" * 4096)
        make_old({*names[1:], other})
        with paths[1].open("r+b") as file, mmap.mmap(file.fileno(), 0):
            removed = set(remove_leftovers())
            assert removed & set(names) == {names[2]}
        assert [path.exists() for path in paths] == [True, True, False, True]
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def test_every_model_of_the_repository_is_served_and_checked(repository, tmp_path):
    with TritonServer(repository, free_ports(), tmp_path / "log", secret=ControlSecret()) as server:
        assert {(m.name, m.state) for m in ModelControl(server.url, server.secret).index()} == {
            ("student", "READY"),
            ("recommend", "READY"),
            ("vocabulary", "READY"),
        }
    (repository / "recommend" / "1" / "model.py").unlink()
    with pytest.raises(ServerError, match=r"found no .*recommend/1/model\.py"):
        TritonServer(repository, free_ports())


@pytest.mark.parametrize("model", ["student", "recommend"])
def test_model_that_cannot_load_ends_the_start_under_explicit_control(repository, tmp_path, model):
    (repository / model / "1" / "model.py").write_text("raise ValueError('broken by the test')\n")
    with pytest.raises(ServerError, match=r"(?s)before it was ready.*broken by the test"):
        TritonServer(repository, free_ports(), tmp_path / "log", secret=ControlSecret())


def test_grpc_port_is_checked_on_its_own_address():
    with socket.create_server(("127.0.0.2", 0)) as taken:
        ports = Ports(taken.getsockname()[1], free_ports().http, free_ports().metrics)
        check_ports(ports, http=False)
        with pytest.raises(ServerError, match=r"port \d+ \(grpc\) on 127\.0\.0\.2 is taken"):
            check_ports(ports, "127.0.0.2", http=False)


def test_grpc_may_listen_elsewhere_while_the_rest_stays_on_loopback(repository, tmp_path):
    with TritonServer(repository, free_ports(), tmp_path / "log", grpc_address="127.0.0.2") as server:
        for address, reachable in (("127.0.0.1", (server.ports.metrics,)), ("127.0.0.2", (server.ports.grpc,))):
            for port in vars(server.ports).values():
                with socket.socket() as probe:
                    assert (probe.connect_ex((address, port)) == 0) == (port in reachable)
