"""The floor of serving: the same tensors as the student's, and no work. For benchmarks."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils

_DTYPES = {"TYPE_INT32": np.int32, "TYPE_FP32": np.float32}


class TritonPythonModel:
    """Answers zeros."""

    def initialize(self, args):
        """Read the shapes of the answer from the configuration."""
        outputs = json.loads(args["model_config"])["output"]
        self.outputs = [
            (output["name"], [int(size) for size in output["dims"]], _DTYPES[output["data_type"]]) for output in outputs
        ]

    def execute(self, requests):
        """Zeros for every row."""
        responses = []
        for request in requests:
            rows = len(pb_utils.get_input_tensor_by_name(request, "history").as_numpy())
            tensors = [pb_utils.Tensor(name, np.zeros((rows, *dims), dtype)) for name, dims, dtype in self.outputs]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
