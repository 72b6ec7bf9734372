"""The blocking connection by itself."""

import threading

from clients.connection import Connection
from clients.transport import Transport


def test_closing_right_after_opening_leaves_no_traceback(monkeypatch):
    """gRPC watches the connection in a thread, which fails on a channel that is closed under it."""
    failures = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    before = set(threading.enumerate())
    for _ in range(5):
        Transport(Connection("127.0.0.1:9")).close()
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert failures == []
