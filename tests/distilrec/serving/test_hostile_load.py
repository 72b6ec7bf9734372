"""A supervised server under hostile clients, beside 200 good requests a second of our own client.

The bar is ten minutes on a machine that does nothing else (``pytest -s --hostile-s 600``). It also holds the time that the server
may be away to 3 s, and the client to its own 5 s and retries. The suite runs it for some seconds with wider limits, because the
machine may be busy.
"""

import json
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import hostile
import pytest
from supervised import Serve, regions

from clients import ClientError, RecommenderClient
from clients.grpc_model import GrpcModel
from distilrec.serving.process.processes import living

pytestmark = pytest.mark.server

RATE, THREADS = 200, 40
BAR_S = 600
MEMORY_AFTER_S = 10


class GoodClients:
    """Threads that share one client and send at a fixed rate; holds each answer against the one from before the load."""

    def __init__(self, url, **options):
        self.client = RecommenderClient(url, **options)
        self.client.wait_until_ready()
        histories = [[f"item-{(7 * n + step) % 90}" for step in range(n % 15)] for n in range(30)]
        self.expected = [(history, self.client.recommend(history, k=5)) for history in histories]
        self.answered, self.wrong, self.failed, self.longest_s = 0, [], Counter(), 0.0
        self._lock, self._stop = threading.Lock(), threading.Event()
        self.front_door: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._run, args=(place,)) for place in range(THREADS)]
        self._threads.append(threading.Thread(target=self._ask_front_door, args=(url,)))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.client.close()

    def _run(self, place):
        due = time.monotonic() + random.uniform(0, THREADS / RATE)
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            place += 1
            self._ask(*self.expected[place % len(self.expected)])
            due = max(due + THREADS / RATE, time.monotonic())

    def _ask_front_door(self, url):
        """Requests that share batches with malformed ones; only reported, because what they may suffer is tested elsewhere."""
        with GrpcModel(url) as model:
            while not self._stop.wait(0.02):
                try:
                    model.ask_front_door([["item-1"]], [[]], 5)
                    self.front_door["answered"] += 1
                except ClientError as error:
                    self.front_door[type(error).__name__] += 1

    def _ask(self, history, expected):
        began = time.monotonic()
        try:
            answer = self.client.recommend(history, k=5)
        except ClientError as error:
            with self._lock:
                self.failed[f"{type(error).__name__}: {error}"] += 1
            return
        took_s = time.monotonic() - began
        with self._lock:
            self.answered += 1
            self.longest_s = max(self.longest_s, took_s)
            if answer.ids != expected.ids or answer.scores != pytest.approx(expected.scores, abs=1e-4):
                self.wrong.append((history, answer, expected))


def memory_bytes(served: Serve) -> tuple[int, int]:
    """Proportional memory of the server and its model processes, and the size of its shared memory."""
    total = 0
    for pid in {served.server_pid, *living(served.server_pid)}:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += 1024 * int(re.search(r"^Pss:\s+(\d+)", rollup, re.M)[1])
    return total, sum(path.stat().st_size for path in regions(served))


def settled(served, limits):
    """Memory of the server after at most ten seconds, or as soon as it is within the limits."""
    end = time.monotonic() + MEMORY_AFTER_S
    while True:
        found = memory_bytes(served)
        if all(size <= limit for size, limit in zip(found, limits, strict=True)) or time.monotonic() > end:
            return found
        time.sleep(0.5)


def test_good_requests_are_answered_beside_hostile_clients(serve, request):
    seconds = request.config.getoption("--hostile-s")
    is_bar = seconds >= BAR_S
    served = serve()
    with GoodClients(served.url, **({} if is_bar else {"timeout_s": 30.0, "retries": 60})) as good:
        time.sleep(3)  # what the first requests take is no growth
        at_start = memory_bytes(served)
        command = [sys.executable, hostile.__file__, served.url, str(seconds)]
        sent = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60).stdout)
        if served.text().count("tritonserver ended") > served.text().count("is ready again"):
            served.wait_for("is ready again", count=served.text().count("tritonserver ended"))
    growth = 1.2 if is_bar else 1.5
    at_end = settled(served, [growth * size for size in at_start])
    away_s = [float(found) for found in re.findall(r"is ready again after ([\d.]+) s", served.text())]
    report = {
        "good": {"answered": good.answered, "failed": good.failed, "wrong": len(good.wrong), "longest_s": round(good.longest_s, 2)},
        "front_door": good.front_door,
        "hostile": sent,
        "deaths": len(away_s),
        "away_s": sorted(away_s)[-10:],
        "memory_mb": [round(size / 1e6, 1) for size in (*at_start, *at_end)],
    }
    print(json.dumps(report, indent=1))
    assert good.wrong == []
    assert not good.failed, report
    assert good.answered > seconds
    assert all(any(key.startswith(attack.__name__) for key in sent) for attack in hostile.PAUSES_S)
    assert max(away_s, default=0) <= (3 if is_bar else 30), report
    assert all(end <= growth * start for start, end in zip(at_start, at_end, strict=True)), report
