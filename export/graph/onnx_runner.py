"""An ONNX model behind the serving contract, run by ONNX Runtime on the CPU or, with its other providers, on a GPU."""

from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from distilrec.core.errors import ParityError
from distilrec.core.runner import NOTHING_CHOSEN, Answer, Choices, request_arrays
from distilrec.core.specs import RecommenderSpec
from export.graph.providers import Provider, missing_provider, provider_options

_ONNX_DTYPES = {"int32": "tensor(int32)", "float32": "tensor(float)"}


class OnnxRunner:
    """Runs ``model.onnx``.

    Args:
        path: The model.
        spec: Sizes that its tensors must have.
        threads: Threads of ONNX Runtime.
        optimize: True lets ONNX Runtime rewrite the graph; with False, every node runs as it is written.
        provider: Where it runs. ONNX Runtime would go back to the CPU where a provider cannot be loaded; here that is an error.

    Raises:
        ParityError: The model cannot be loaded, its tensors are not those of ``spec``, or it does not run on ``provider``.
    """

    def __init__(
        self, path: Path, spec: RecommenderSpec, threads: int = 1, *, optimize: bool = True, provider: Provider = "cpu"
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        if not optimize:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._require(path, provider, onnxruntime.get_available_providers())
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=provider_options(provider, spec))
        except Exception as error:  # ONNX Runtime has a class of its own for every status
            raise ParityError(f"{path}: ONNX Runtime cannot load it: {error}. Run the export again.") from error
        self._require(path, provider, self.session.get_providers())
        self.spec = spec
        self._path = path
        found = [(t.name, t.type, tuple(t.shape[1:])) for t in (*self.session.get_inputs(), *self.session.get_outputs())]
        expected = [(t.name, _ONNX_DTYPES[t.dtype], t.shape) for t in (*spec.inputs, *spec.outputs)]
        if found != expected:
            raise ParityError(f"{path}: found tensors {found}, expected {expected}")

    @staticmethod
    def _require(path: Path, provider: Provider, found: list[str]) -> None:
        if fault := missing_provider(provider, found):
            raise ParityError(f"{path}: {fault}")

    def recommend(self, history: NDArray[np.int32], exclude: NDArray[np.int32], choices: Choices = NOTHING_CHOSEN) -> Answer:
        """int32 [B, L], int32 [B, E] and optional tensors -> items int32 [B, K] and scores float32 [B, K]."""
        inputs = request_arrays(self.spec, history, exclude, choices)
        items, scores = self.session.run([tensor.name for tensor in self.spec.outputs], inputs)
        return items, scores

    @property
    def vocabulary_sha256(self) -> str | None:
        """Digest of the vocabulary that the graph states; None where it states none."""
        stated: str | None = self.session.get_modelmeta().custom_metadata_map.get("vocabulary_sha256")
        return stated

    def scores(self, history: NDArray[np.int32], exclude: NDArray[np.int32]) -> NDArray[np.float32]:
        """Scores of the whole catalogue, see ``ScoringRunner``: what the graph's top-K reads."""
        inputs = request_arrays(self.spec, history, exclude)
        (scores,) = self._scoring_session.run(None, inputs)
        return np.asarray(scores[:, : self.spec.item_count + 1], np.float32)

    @cached_property
    def _scoring_session(self) -> onnxruntime.InferenceSession:
        """A session of the same graph that ends before its top-K."""
        model = onnx.load(self._path)
        (top_k,) = (node for node in model.graph.node if node.op_type == "TopK")
        inferred = onnx.shape_inference.infer_shapes(model).graph
        dtypes = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
        name = top_k.input[0]
        del model.graph.output[:]
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, dtypes.get(name, onnx.TensorProto.FLOAT), None))
        return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
