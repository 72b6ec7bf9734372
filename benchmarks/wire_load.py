"""Load on a real server: prepared messages, sent by several processes of several threads each."""

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

_TIMEOUT_S = 30
"""Time for one answer; queues of many requests to a large teacher are long."""


class SenderPool(NamedTuple):
    """Processes that send requests."""

    executor: ProcessPoolExecutor
    processes: int


def connect(url: str) -> Any:
    """Return a stub of Triton's gRPC service."""
    return service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(url))


def send_all(url: str, messages: Sequence[bytes], count: int, concurrency: int, pool: SenderPool) -> list[float]:
    """Keep ``concurrency`` requests in flight until ``count`` are answered, and return the seconds that each took.

    Args:
        url: Host and port of the gRPC endpoint.
        messages: Serialised requests, which are sent in turn.
        count: Number of requests.
        concurrency: Requests in flight; a multiple of the pool's processes, or fewer than those.
        pool: Processes that send.
    """
    processes = min(concurrency, pool.processes)
    shares = [(url, messages, count // processes, concurrency // processes)] * processes
    return [seconds for times in pool.executor.map(_send, shares) for seconds in times]


def _send(share: tuple[str, Sequence[bytes], int, int]) -> list[float]:
    """Send one process' share of the requests; returns the seconds of each."""
    url, messages, count, threads = share
    channel = grpc.insecure_channel(url)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    requests = [service_pb2.ModelInferRequest.FromString(message) for message in messages]

    def infer(place: int) -> float:
        started = time.perf_counter()
        try:
            stub.ModelInfer(requests[place % len(requests)], timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise RuntimeError(str(error)) from None  # An error of gRPC cannot be pickled for the parent process.
        return time.perf_counter() - started

    with channel, ThreadPoolExecutor(threads) as pool:
        return list(pool.map(infer, range(count)))


def statistics(stub: Any, model: str) -> Any:
    """Return Triton's counts of a model since it was loaded, a ModelStatistics message."""
    (model_statistics,) = stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name=model), timeout=_TIMEOUT_S).model_stats
    return model_statistics


def server_side(before: Any, after: Any) -> dict[str, Any]:
    """Compute the server's times between two readings of its statistics.

    Args:
        before: ModelStatistics before the load.
        after: ModelStatistics after the load.

    Returns:
        Mean milliseconds of a request in the server, in its queue and in each part of its computation, the number of executions by
        batch size (``batch_sizes``), and the mean batch size.
    """
    parts = {"server_ms": "success", "queue_ms": "queue", "compute_input_ms": "compute_input"}
    parts |= {"compute_infer_ms": "compute_infer", "compute_output_ms": "compute_output"}
    times: dict[str, Any] = {}
    for name, part in parts.items():
        first, last = (getattr(reading.inference_stats, part) for reading in (before, after))
        times[name] = (last.ns - first.ns) / max(1, last.count - first.count) / 1e6
    earlier = {entry.batch_size: entry.compute_infer.count for entry in before.batch_stats}
    sizes = {entry.batch_size: entry.compute_infer.count - earlier.get(entry.batch_size, 0) for entry in after.batch_stats}
    batch_sizes = {str(size): count for size, count in sorted(sizes.items()) if count}
    executions = after.execution_count - before.execution_count
    mean_batch_size = (after.inference_count - before.inference_count) / max(1, executions)
    return times | {"batch_sizes": batch_sizes, "mean_batch_size": mean_batch_size}
