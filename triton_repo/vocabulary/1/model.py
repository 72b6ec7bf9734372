"""Sends the served vocabulary.json to clients, so that a client on another machine needs only the address.

The file is sent in parts, each read for its request, so a catalogue of millions takes no memory here.
"""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

PART_BYTES = 1 << 20
"""Largest part of the file in an answer: 1 MiB, below gRPC's default limit of 4 MiB for a message."""


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args):
        """Refuse a vocabulary that is not the one config.pbtxt states."""
        stated = json.loads(args["model_config"])["parameters"]["vocabulary_sha256"]["string_value"]
        self.path = Path(args["model_repository"]) / args["model_version"] / "vocabulary.json"
        found = json.loads(self.path.read_text(encoding="utf-8"))["sha256"]
        if found != stated:
            raise pb_utils.TritonModelException(
                f"{self.path} holds vocabulary {found}, config.pbtxt states {stated}. Fill the repository again: distilrec export"
            )

    def execute(self, requests):
        """Answer each request by itself."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        offset = int(pb_utils.get_input_tensor_by_name(request, "offset").as_numpy()[0])
        total = self.path.stat().st_size
        if not 0 <= offset < total:
            message = f"offset: found {offset}, expected 0 to {total - 1}"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))
        with self.path.open("rb") as file:
            file.seek(offset)
            part = file.read(PART_BYTES)
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("content", np.array([part], np.object_)),
                pb_utils.Tensor("total_bytes", np.array([total], np.int64)),
            ]
        )
