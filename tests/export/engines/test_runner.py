"""What the engine's runner asks of TensorRT, with a stand-in for an execution context; tests/gpu runs the real one."""

import pytest

from distilrec.core.errors import EngineError
from distilrec.core.specs import RecommenderSpec
from export.engines.runner import bind, execute, graph_size, set_batch_size

SPEC = RecommenderSpec(item_count=90, history_length=12, exclude_length=16, top_k=20)


class Context:
    """Refuses what ``refused`` names, with False, as TensorRT does."""

    def __init__(self, refused=()):
        self.refused, self.calls = refused, []

    def set_tensor_address(self, name, address):
        self.calls.append((name, address))
        return name not in self.refused

    def set_input_shape(self, name, shape):
        self.calls.append((name, shape))
        return name not in self.refused

    def execute_async_v3(self, stream):
        self.calls.append(stream)
        return "execute" not in self.refused


def test_batch_is_set_for_every_input_and_launched_on_the_stream():
    context = Context()
    bind(context, {"history": 1, "items": 2})
    set_batch_size(context, SPEC, 3)
    execute(context, 3, 77)
    assert context.calls == [("history", 1), ("items", 2), ("history", (3, 12)), ("exclude", (3, 16)), 77]


def test_batch_is_replayed_by_the_next_larger_graph():
    assert [graph_size(rows, (8, 1, 4)) for rows in (1, 2, 4, 5, 8, 9)] == [1, 4, 4, 8, 8, None]


def test_what_tensorrt_refuses_is_an_error():
    with pytest.raises(EngineError, match="found no tensors items in the engine"):
        bind(Context(refused=["items"]), {"history": 1, "items": 2})
    with pytest.raises(EngineError, match="found a batch of 65 rows"):
        set_batch_size(Context(refused=["exclude"]), SPEC, 65)
    with pytest.raises(EngineError, match="refused to run a batch of 2"):
        execute(Context(refused=["execute"]), 2, 0)
