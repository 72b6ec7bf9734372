"""Load on a server whose model is exchanged, killed or stopped: golden requests, and what the clients saw."""

import threading
import time

from clients.errors import ClientError
from clients.grpc_model import GrpcModel
from distilrec.evaluation.parity import SCORE_TOLERANCE, compare


class Load:
    """Asks golden requests all the time, and holds each answer against the expectation of the version that gave it.

    ``failed`` has of each failed call when it began, and gRPC's code and message; ``wrong`` has version and row.
    """

    def __init__(self, url, expected, threads=2, pause_s=0.002):
        self.expected, self.pause_s = expected, pause_s
        self.answered, self.failed, self.wrong, self.seen = 0, [], [], set()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(url, place)) for place in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, url, row):
        requests = next(iter(self.expected.values()))
        with GrpcModel(url, timeout_s=10) as model:
            while not self._stop.is_set():
                row = (row + 1) % len(requests.history)
                began = time.monotonic()
                try:
                    items, scores, version = model.recommend_with_version(requests.history[row, None], requests.exclude[row, None])
                except ClientError as error:
                    self.failed.append((began, str(error.__cause__ or error)))
                    time.sleep(0.02)
                    continue
                self.answered += 1
                self.seen.add(int(version))
                if not self._is_right(int(version), row, items, scores):
                    self.wrong.append((int(version), row))
                time.sleep(self.pause_s)

    def _is_right(self, version, row, items, scores):
        own = self.expected.get(version)
        if own is None or items.shape != own.items[row, None].shape:
            return False
        parity = compare((own.items[row, None], own.scores[row, None]), (items, scores))
        return not parity.misplaced and parity.max_score_error <= SCORE_TOLERANCE
