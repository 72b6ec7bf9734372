"""Clients that attack a gRPC endpoint: ``python hostile.py URL SECONDS`` prints one JSON object with what each kind sent.

A process of its own, so that the good clients of the test have an interpreter to themselves.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

LENGTHS = {"history": 12, "exclude": 16}
HALF_OPEN = 50
"""Connections that are left half open at a time."""


def connect(url):
    channel = grpc.insecure_channel(url, [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 500)])
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def student_request():
    request = service_pb2.ModelInferRequest(model_name="student")
    for name, length in LENGTHS.items():
        request.inputs.add(name=name, datatype="INT32", shape=[1, length])
        request.raw_input_contents.append(bytes(4 * length))
    return request


def deadlines(stub, _url):
    """A deadline of 1 to 50 ms."""
    stub.ModelInfer(student_request(), timeout=0.001 * 50 ** random.random())  # as many below 7 ms as above


def cancellations(stub, _url):
    """A call that is cancelled within 3 ms."""
    call = stub.ModelInfer.future(student_request(), timeout=30)
    time.sleep(random.uniform(0, 0.003))
    call.cancel()


def malformed(stub, _url):
    """String tensors whose lengths lie, for the front door."""
    request = service_pb2.ModelInferRequest(model_name="recommend")
    request.inputs.add(name="history", datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(random.choice([b"\xff\xff\xff\x7fab", b"\x01", b"\x02\x00\x00\x00a", b"\xff" * 64]))
    stub.ModelInfer(request, timeout=30)


def shapes(stub, _url):
    """Shapes far beyond the data, and beyond memory."""
    shape = random.choice([[2**31, 2**31], [1, 10**12], [1, 3_000_000_000], [-1, 12], [2**62, 2]])
    request = service_pb2.ModelInferRequest(model_name=random.choice(["student", "recommend"]))
    for name in LENGTHS:
        request.inputs.add(name=name, datatype=random.choice(["INT32", "BYTES"]), shape=shape)
        request.raw_input_contents.append(bytes(64))
    stub.ModelInfer(request, timeout=30)


def half_open(_stub, url, held=[]):  # noqa: B006 - keeps the connections between calls
    """A connection that sends part of HTTP/2's preface and stays."""
    host, _, port = url.rpartition(":")
    connection = socket.create_connection((host, int(port)), 1)
    connection.sendall(random.choice([b"", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00", b"\x16\x03\x01"]))
    held.append(connection)
    if len(held) > HALF_OPEN:
        held.pop(0).close()


def killed(_stub, url):
    """A client process that is killed while its calls are in flight."""
    with subprocess.Popen([sys.executable, __file__, url, "victim"], stdout=subprocess.PIPE) as victim:
        victim.stdout.readline()
        time.sleep(random.uniform(0.001, 0.05))
        victim.send_signal(signal.SIGKILL)


PAUSES_S = {deadlines: 0.02, cancellations: 0.02, malformed: 0.05, shapes: 0.1, half_open: 0.1, killed: 2.0}
THREADS = {deadlines: 6, cancellations: 6}
"""Threads of each kind, where it is not one."""


def repeat(attack, url, end, seen):
    stub = connect(url)
    while time.monotonic() < end:
        try:
            attack(stub, url)
            seen[f"{attack.__name__} sent"] += 1
        except grpc.RpcError as error:
            seen[f"{attack.__name__} {error.code().name}"] += 1
        except OSError:
            seen[f"{attack.__name__} refused"] += 1
        time.sleep(random.uniform(0, 2 * PAUSES_S[attack]))


def be_a_victim(url):
    stub = connect(url)
    stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=10, wait_for_ready=True)
    print("ready", flush=True)
    while True:
        stub.ModelInfer.future(student_request(), timeout=30)
        time.sleep(0.001)


def main(url, seconds):
    random.seed(7)
    seen = Counter()
    end = time.monotonic() + seconds
    threads = [
        threading.Thread(target=repeat, args=(attack, url, end, seen), daemon=True)
        for attack in PAUSES_S
        for _ in range(THREADS.get(attack, 1))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 10)
    print(json.dumps(dict(sorted(seen.items()))), flush=True)
    os._exit(0)  # calls may still be in flight


if __name__ == "__main__":
    if sys.argv[2] == "victim":
        be_a_victim(sys.argv[1])
    main(sys.argv[1], float(sys.argv[2]))
