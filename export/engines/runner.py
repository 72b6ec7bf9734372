"""A TensorRT plan behind the serving contract, run on the current CUDA GPU."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from distilrec.core.errors import EngineError
from distilrec.core.runner import NOTHING_CHOSEN, Answer, Choices, chosen_rows, request_arrays
from distilrec.core.specs import RecommenderSpec
from export.engines.backends import Backend, collected_log, errors_of, find_backend, logger
from export.engines.plan import PlanManifest, check_plan, read_plan_manifest, this_device


@dataclass(frozen=True)
class _Slot:
    """An execution context with the GPU memory it reads and writes; their addresses never change."""

    context: Any
    buffers: dict[str, torch.Tensor]
    """Tensors of the contract by name: [rows, ...]."""
    hosts: dict[str, torch.Tensor]
    """Their twins in the CPU's memory, page-locked: copies from other memory wait for each other."""
    graph: torch.cuda.CUDAGraph | None = None


class EngineRunner:
    """Runs a plan, one request at a time because execution contexts are not thread-safe. Batches larger than the plan's are split.

    Args:
        plan_path: The plan; its manifest lies next to it.
        spec: Sizes that it must have.
        vocabulary_sha256: Digest of the vocabulary that its item indices must belong to.
        cuda_graph_batches: Batch sizes that are replayed as a CUDA graph, which saves the launch of each kernel. Smaller batches
            are replayed by the next larger graph; as in Triton, its other rows hold whatever they held, and nobody reads their
            answers. Each size needs the memory of another execution context.

    Raises:
        EngineError: The plan must not be run here (``check_plan``), there is no CUDA GPU, or TensorRT cannot load the plan.
        MissingExtraError: The plan's TensorRT package is not installed.
    """

    def __init__(
        self, plan_path: Path, spec: RecommenderSpec, vocabulary_sha256: str, *, cuda_graph_batches: tuple[int, ...] = ()
    ) -> None:
        backend = find_backend(read_plan_manifest(plan_path).backend)
        self.manifest = check_plan(plan_path, spec, vocabulary_sha256, this_device(backend))
        self.spec = spec
        self.max_batch_size = max(profile.max_batch_size for profile in self.manifest.profiles)
        beyond = [rows for rows in cuda_graph_batches if not 1 <= rows <= self.max_batch_size]
        if beyond:
            raise EngineError(f"found CUDA graphs for batches of {beyond}, expected sizes of 1..{self.max_batch_size}")
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with collected_log(backend) as log:
            self._runtime, self._engine = _load(plan_path, self.manifest, backend)
            if self._engine is None:
                raise EngineError(f"{plan_path}: {backend.label} {backend.version} cannot load it:\n{errors_of(log)}")
            self._eager = self._slot(self.max_batch_size, self._engine.create_execution_context())
            self._graphs = {rows: self._graph_slot(rows, backend) for rows in cuda_graph_batches}

    @property
    def device_memory_bytes(self) -> int:
        """GPU memory of one execution context, in addition to the weights."""
        return int(self._engine.device_memory_size_v2)

    def recommend(self, history: NDArray[np.int32], exclude: NDArray[np.int32], choices: Choices = NOTHING_CHOSEN) -> Answer:
        """int32 [B, L], int32 [B, E] and optional tensors -> items int32 [B, K] and scores float32 [B, K].

        Raises:
            EngineError: TensorRT refused to run.
        """
        step, arrays = self.max_batch_size, request_arrays(self.spec, history, exclude, choices)
        answers = [self._run(chosen_rows(arrays, slice(i, i + step))) for i in range(0, len(history), step)]
        if not answers:
            return np.zeros((0, self.spec.top_k), np.int32), np.zeros((0, self.spec.top_k), np.float32)
        return np.concatenate([items for items, _ in answers]), np.concatenate([scores for _, scores in answers])

    def _run(self, arrays: Mapping[str, NDArray[np.int32]]) -> Answer:
        rows = len(arrays[self.spec.history.name])
        size = graph_size(rows, self._graphs)
        slot = self._eager if size is None else self._graphs[size]
        with torch.cuda.stream(self._stream):
            for name, values in arrays.items():
                slot.hosts[name][:rows].copy_(torch.from_numpy(np.ascontiguousarray(values)))
                slot.buffers[name][:rows].copy_(slot.hosts[name][:rows], non_blocking=True)
            if slot.graph is None:
                set_batch_size(slot.context, self.spec, rows)
                execute(slot.context, rows, self._stream.cuda_stream)
            else:
                slot.graph.replay()
            for tensor in self.spec.outputs:
                slot.hosts[tensor.name][:rows].copy_(slot.buffers[tensor.name][:rows], non_blocking=True)
            self._stream.synchronize()  # once a request
        items, scores = (slot.hosts[tensor.name][:rows].numpy().copy() for tensor in self.spec.outputs)
        return items, scores

    def _slot(self, rows: int, context: Any) -> _Slot:
        if context is None:
            raise EngineError(f"found no room on the GPU for an execution context, expected {self.device_memory_bytes >> 20} MiB")
        tensors = (*self.spec.inputs, *self.spec.outputs)
        buffers = {t.name: torch.zeros(rows, *t.shape, dtype=getattr(torch, t.dtype), device="cuda") for t in tensors}
        hosts = {name: torch.zeros_like(buffer, device="cpu").pin_memory() for name, buffer in buffers.items()}
        bind(context, {name: buffer.data_ptr() for name, buffer in buffers.items()})
        torch.cuda.synchronize()  # requests run on another stream than the one that filled the buffers
        return _Slot(context, buffers, hosts)

    def _graph_slot(self, rows: int, backend: Backend) -> _Slot:
        if backend.capabilities.own_cuda_graphs:
            # Kernels are compiled while requests run, so only TensorRT itself knows when a capture is worth keeping.
            config = self._engine.create_runtime_config()
            config.cuda_graph_strategy = backend.module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            return self._slot(rows, self._engine.create_execution_context(config))
        slot = self._slot(rows, self._engine.create_execution_context())
        # Before the capture: the shape, which may not change in it, and work that is done once for each shape.
        set_batch_size(slot.context, self.spec, rows)
        execute(slot.context, rows, self._stream.cuda_stream)
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            execute(slot.context, rows, self._stream.cuda_stream)
        return replace(slot, graph=graph)


def graph_size(rows: int, sizes: Iterable[int]) -> int | None:
    """The smallest captured batch that has room for so many rows; None where there is none."""
    return min((size for size in sizes if size >= rows), default=None)


def bind(context: Any, addresses: Mapping[str, int]) -> None:
    """Tell an execution context where its tensors lie. Raises EngineError where the engine has no such tensor."""
    refused = [name for name, address in addresses.items() if not context.set_tensor_address(name, address)]
    if refused:
        raise EngineError(f"found no tensors {', '.join(refused)} in the engine, expected those of the contract. Export again")


def set_batch_size(context: Any, spec: RecommenderSpec, rows: int) -> None:
    """Set the shapes of a batch. Raises EngineError where the engine has no profile for it."""
    for tensor in spec.inputs:
        if not context.set_input_shape(tensor.name, (rows, *tensor.shape)):
            raise EngineError(f"found a batch of {rows} rows, expected one that the plan was built for")


def execute(context: Any, rows: int, stream: int) -> None:
    """Launch the engine on a CUDA stream. Raises EngineError where TensorRT refuses."""
    if not context.execute_async_v3(stream):
        raise EngineError(f"TensorRT refused to run a batch of {rows}; the reason stands in the log above")


def _load(plan_path: Path, manifest: PlanManifest, backend: Backend) -> tuple[Any, Any]:
    """The runtime, which must outlive the engine, and the engine, which is None if it cannot be loaded."""
    runtime = backend.module.Runtime(logger(backend))
    if manifest.version_compatible:
        runtime.engine_host_code_allowed = True  # such a plan contains a runtime; its sha256 was checked
    return runtime, runtime.deserialize_cuda_engine(plan_path.read_bytes())
