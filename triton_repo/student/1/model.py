"""The served recommender: model.onnx in ONNX Runtime, inside Triton's Python backend.

Needs numpy and onnxruntime only. Triton hands over several requests at once (dynamic batching); they run as one batch. The
graph counts bad indices as padding, so one request cannot fail the others.
"""

import json
import os
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read by ONNX Runtime as it is loaded
import onnxruntime


class TritonPythonModel:
    """One instance of the model; Triton starts as many as config.pbtxt says."""

    def initialize(self, args):
        """Load model.onnx and refuse one that was made for another vocabulary than config.pbtxt states."""
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        if not path.exists():
            raise pb_utils.TritonModelException(f"{path}: no such file. Make it with: distilrec export")
        options = onnxruntime.SessionOptions()
        # Throughput comes from instances; more threads in each only compete for the same cores.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        expected = config["parameters"]["vocabulary_sha256"]["string_value"]
        found = self.session.get_modelmeta().custom_metadata_map.get("vocabulary_sha256")
        if found != expected:
            raise pb_utils.TritonModelException(
                f"{path} was made for vocabulary {found}, config.pbtxt states {expected}."
                " Fill the repository again: distilrec export"
            )
        self.inputs = [tensor.name for tensor in self.session.get_inputs()]
        self.outputs = [tensor.name for tensor in self.session.get_outputs()]

    def execute(self, requests):
        """Run all requests as one batch and hand each its rows."""
        tensors = {
            name: [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests] for name in self.inputs
        }
        # With one request, joining and np.split would take a tenth of the time of the whole answer.
        batch = {name: np.concatenate(rows) if len(rows) > 1 else rows[0] for name, rows in tensors.items()}
        results = self.session.run(self.outputs, batch)
        responses, first = [], 0
        for rows in tensors[self.inputs[0]]:
            own = slice(first, first + len(rows))
            first = own.stop
            parts = [pb_utils.Tensor(name, result[own]) for name, result in zip(self.outputs, results, strict=True)]
            responses.append(pb_utils.InferenceResponse(parts))
        return responses
