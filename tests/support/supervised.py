"""A ``distilrec serve`` of its own, for tests that end its server."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from distilrec.serving.process.environment import free_ports
from distilrec.serving.process.security import ControlSecret

BACK_S = 30
"""Generous: it takes about 2 s on an idle machine."""


class Serve:
    """A ``distilrec serve`` of its own, whose output is read as it comes."""

    def __init__(self, repository, ports, home, *options):
        self.ports, self.home = ports, home
        self.log = home / "serve.log"
        self.watchdog_port = free_ports().grpc
        command = [sys.executable, "-m", "distilrec", "serve", "--repository", str(repository)]
        command += [f"--{name}-port={port}" for name, port in vars(ports).items()]
        command += [f"--watchdog-port={self.watchdog_port}", *options]
        environment = os.environ | {"XDG_RUNTIME_DIR": str(home), "DISTILREC_CONTROL_SECRET": ControlSecret().value}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    @property
    def url(self):
        return f"127.0.0.1:{self.ports.grpc}"

    @property
    def pid_file(self):
        return self.home / "distilrec" / f"server-{self.ports.grpc}.json"

    @property
    def server_pid(self):
        return json.loads(self.pid_file.read_text())["server"]["pid"]

    def text(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, words, count=1, timeout_s=BACK_S):
        deadline = time.monotonic() + timeout_s
        while len(re.findall(words, self.text())) < count:
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, f"{words!r} not within {timeout_s} s:\n{self.text()}"
            time.sleep(0.02)

    def metrics(self):
        return urllib.request.urlopen(f"http://127.0.0.1:{self.watchdog_port}/metrics", timeout=5).read().decode()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def regions(served):
    """Shared memory that the server has mapped."""
    maps = Path(f"/proc/{served.server_pid}/maps").read_text().splitlines()
    return sorted({Path(line.split(maxsplit=5)[5]) for line in maps if "/dev/shm/distilrec_" in line})


@pytest.fixture
def serve(serving_config, tmp_path):
    started = []

    def start(*options, ports=None):
        started.append(Serve(serving_config.repository, ports or free_ports(), tmp_path, *options))
        started[-1].wait_for("ready: gRPC on", count=len(started))
        return started[-1]

    yield start
    for entry in started:
        with contextlib.suppress(OSError, ValueError):
            os.killpg(entry.server_pid, signal.SIGKILL)
        entry.process.kill()
        entry.process.wait()
