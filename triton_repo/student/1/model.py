"""The served recommender inside Triton's Python backend: model.onnx in ONNX Runtime, or the version's approximate head.

It needs only numpy and onnxruntime, and faiss for an approximate head. Triton passes several requests at once (dynamic batching);
they run as one batch. The graph counts bad indices as padding, so one request cannot fail the others.
"""

import json
import os
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read by ONNX Runtime as it is loaded
import onnxruntime

_DTYPES = {"TYPE_INT32": np.int32, "TYPE_FP32": np.float32}


class TritonPythonModel:
    """One instance of the model; Triton starts as many as config.pbtxt says."""

    def initialize(self, args):
        """Load model.onnx and refuse one that was made for another vocabulary than config.pbtxt states."""
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        path, expected = folder / "model.onnx", config["parameters"]["vocabulary_sha256"]["string_value"]
        self.inputs, self.outputs = (self._buffers(config, kind) for kind in ("input", "output"))
        self.bindings = {}
        if (folder / "head.json").exists():
            self.run = self._head(folder, expected)
            return
        if not path.exists():
            raise pb_utils.TritonModelException(f"{path}: no such file. Make it with: distilrec export")
        options = onnxruntime.SessionOptions()
        # Throughput comes from instances; more threads in each only compete for the same cores.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        found = self.session.get_modelmeta().custom_metadata_map.get("vocabulary_sha256")
        if found != expected:
            raise pb_utils.TritonModelException(
                f"{path} was made for vocabulary {found}, config.pbtxt states {expected}."
                " Fill the repository again: distilrec export"
            )
        self.run = lambda rows: self.session.run_with_iobinding(self._bound(rows))

    def execute(self, requests):
        """Run all requests as one batch, and answer each with its rows."""
        places, end = [], 0
        for request in requests:
            begin = end
            for name, buffer in self.inputs.items():
                rows = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                end = begin + len(rows)
                buffer[begin:end] = rows
            places.append(slice(begin, end))
        self.run(end)
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(name, buffer[place]) for name, buffer in self.outputs.items()])
            for place in places
        ]

    def _head(self, folder, vocabulary_sha256):
        """A function that answers the first rows of the buffers by the approximate head."""
        # Both are of export/heads, copied next to this file; the first one sets the number of threads before faiss is loaded.
        from head_files import open_head  # isort: skip
        from approximate import ApproximateHead

        head = ApproximateHead(open_head(folder))
        if head.settings.vocabulary_sha256 != vocabulary_sha256:
            raise pb_utils.TritonModelException(
                f"{folder}/head.json was made for vocabulary {head.settings.vocabulary_sha256}, config.pbtxt states"
                f" {vocabulary_sha256}. Fill the repository again: distilrec export"
            )

        def run(rows):
            answer = head.recommend({name: buffer[:rows] for name, buffer in self.inputs.items()})
            self.outputs["items"][:rows], self.outputs["scores"][:rows] = answer

        return run

    def _buffers(self, config, kind):
        """Arrays for the largest batch, by tensor. Answers have left before the next batch runs, so the arrays are used again."""
        rows = config["max_batch_size"]
        return {
            tensor["name"]: np.zeros((rows, *map(int, tensor["dims"])), _DTYPES[tensor["data_type"]]) for tensor in config[kind]
        }

    def _bound(self, rows):
        """The first rows of the buffers, bound to the graph once: to bind arrays for each call takes some 30 microseconds."""
        if rows not in self.bindings:
            binding = self.session.io_binding()
            for bind, buffers in ((binding.bind_input, self.inputs), (binding.bind_output, self.outputs)):
                for name, buffer in buffers.items():
                    bind(name, "cpu", 0, buffer.dtype.type, (rows, *buffer.shape[1:]), buffer.ctypes.data)
            self.bindings[rows] = binding
        return self.bindings[rows]
