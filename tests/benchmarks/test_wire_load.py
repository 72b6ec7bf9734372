"""The server's times, from two readings of Triton's statistics."""

import pytest
from tritonclient.grpc import service_pb2

from benchmarks.wire_load import server_side


def statistics(requests: int, executions: int, batches: dict[int, int], **ns: int) -> service_pb2.ModelStatistics:
    found = service_pb2.ModelStatistics(inference_count=requests, execution_count=executions)
    for part, total in ns.items():
        getattr(found.inference_stats, part).count, getattr(found.inference_stats, part).ns = requests, total
    for size, count in batches.items():
        found.batch_stats.add(batch_size=size).compute_infer.count = count
    return found


def test_server_side_is_the_difference_of_two_readings():
    before = statistics(10, 10, {1: 10}, success=50_000_000, queue=1_000_000, compute_infer=30_000_000)
    after = statistics(30, 16, {1: 12, 4: 4}, success=90_000_000, queue=21_000_000, compute_infer=40_000_000)
    found = server_side(before, after)
    assert found["server_ms"] == pytest.approx(2.0)
    assert found["queue_ms"] == pytest.approx(1.0)
    assert found["compute_infer_ms"] == pytest.approx(0.5)
    assert found["batch_sizes"] == {"1": 2, "4": 4}
    assert found["mean_batch_size"] == pytest.approx(20 / 6)
