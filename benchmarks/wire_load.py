"""Requests through a real server: prepared messages sent by one caller, or by several processes of several threads each."""

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

_TIMEOUT_S = 30


def connect(url: str) -> Any:
    """A stub of Triton's gRPC service."""
    return service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(url))


def send_all(url: str, messages: Sequence[bytes], count: int, concurrency: int, pool: ProcessPoolExecutor) -> list[float]:
    """Keep ``concurrency`` requests in flight until ``count`` are answered; seconds each took.

    Args:
        url: host and port of the gRPC endpoint.
        messages: serialised requests, sent in turn.
        count: of requests.
        concurrency: a multiple of the pool's processes, or fewer than those.
        pool: processes that send.
    """
    processes = min(concurrency, pool._max_workers)  # type: ignore[attr-defined]
    jobs = [(url, messages, count // processes, concurrency // processes)] * processes
    return [seconds for took in pool.map(_send, jobs) for seconds in took]


def _send(job: tuple[str, Sequence[bytes], int, int]) -> list[float]:
    url, messages, count, threads = job
    channel = grpc.insecure_channel(url)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    requests = [service_pb2.ModelInferRequest.FromString(message) for message in messages]

    def ask(place: int) -> float:
        started = time.perf_counter()
        try:
            stub.ModelInfer(requests[place % len(requests)], timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise RuntimeError(str(error)) from None  # gRPC's own cannot be sent to another process
        return time.perf_counter() - started

    with channel, ThreadPoolExecutor(threads) as pool:
        return list(pool.map(ask, range(count)))


def statistics(stub: Any, model: str) -> Any:
    """Triton's counts of a model since it was loaded, a ModelStatistics message."""
    (found,) = stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name=model), timeout=_TIMEOUT_S).model_stats
    return found


def server_side(before: Any, after: Any) -> dict[str, Any]:
    """Where the server spent its time between two readings of its statistics.

    Returns:
        Mean milliseconds of a request in the server, in its queue, and in each part of its computation, and the batches that were
        formed: ``batch_sizes`` counts executions by size.
    """
    parts = {"server_ms": "success", "queue_ms": "queue", "compute_input_ms": "compute_input"}
    parts |= {"compute_infer_ms": "compute_infer", "compute_output_ms": "compute_output"}
    found: dict[str, Any] = {}
    for name, part in parts.items():
        first, last = (getattr(reading.inference_stats, part) for reading in (before, after))
        found[name] = (last.ns - first.ns) / max(1, last.count - first.count) / 1e6
    earlier = {entry.batch_size: entry.compute_infer.count for entry in before.batch_stats}
    sizes = {entry.batch_size: entry.compute_infer.count - earlier.get(entry.batch_size, 0) for entry in after.batch_stats}
    found["batch_sizes"] = {str(size): count for size, count in sorted(sizes.items()) if count}
    executions = after.execution_count - before.execution_count
    found["mean_batch_size"] = (after.inference_count - before.inference_count) / max(1, executions)
    return found
