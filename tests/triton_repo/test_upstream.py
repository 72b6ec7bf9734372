"""The front door's request to a student on a GPU, with a stand-in for Triton's module that behaves as its documentation says."""

import importlib.util
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from distilrec.core import filters, histories
from export.repository.version_files import model_source

TRITONSERVER_MEMORY_CPU, TRITONSERVER_MEMORY_GPU = "cpu", "gpu"


class Tensor:
    def __init__(self, name, values, memory=TRITONSERVER_MEMORY_CPU):
        self._name, self._values, self._memory = name, values, memory

    def name(self):
        return self._name

    def as_numpy(self):
        """python_backend's README: a tensor in the GPU's memory cannot become a numpy array."""
        if self._memory == TRITONSERVER_MEMORY_GPU:
            raise RuntimeError("Tensor is stored in GPU and cannot be converted to NumPy.")
        return self._values


class PreferredMemory:
    def __init__(self, memory_type, memory_type_id=0):
        self.memory_type, self.memory_type_id = memory_type, memory_type_id


class InferenceRequest:
    """The student behind it answers where its backend computes, unless the request prefers other memory."""

    def __init__(self, model_name, requested_output_names, inputs, preferred_memory=None):
        self.memory = preferred_memory.memory_type if preferred_memory else TRITONSERVER_MEMORY_GPU
        self.rows = len(inputs[0].as_numpy())
        assert (model_name, requested_output_names) == ("student", ["items", "scores"])

    def exec(self):
        items, scores = np.array([[2, 1]] * self.rows, np.int32), np.array([[0.5, 0.25]] * self.rows, np.float32)
        return InferenceResponse([Tensor("items", items, self.memory), Tensor("scores", scores, self.memory)])


class InferenceResponse:
    def __init__(self, output_tensors=(), error=None):
        self.tensors, self._error = {tensor.name(): tensor for tensor in output_tensors}, error

    def has_error(self):
        return self._error is not None

    def error(self):
        return self._error


class TritonError(Exception):
    INTERNAL, INVALID_ARG = "internal", "invalid argument"


@pytest.fixture
def front_door(tmp_path, monkeypatch):
    stand_in = SimpleNamespace(
        Tensor=Tensor,
        PreferredMemory=PreferredMemory,
        InferenceRequest=InferenceRequest,
        InferenceResponse=InferenceResponse,
        TritonError=TritonError,
        TRITONSERVER_MEMORY_CPU=TRITONSERVER_MEMORY_CPU,
        TRITONSERVER_MEMORY_GPU=TRITONSERVER_MEMORY_GPU,
        get_input_tensor_by_name=lambda request, name: request.get(name),
        get_output_tensor_by_name=lambda response, name: response.tensors[name],
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in)
    monkeypatch.setitem(sys.modules, "histories", histories)
    monkeypatch.setitem(sys.modules, "filters", filters)
    folder = tmp_path / "1"
    folder.mkdir()
    (folder / "vocabulary.json").write_text(json.dumps({"sha256": "v", "item_ids": ["a", "b"]}))
    (folder / "front_door.py").write_text(model_source("recommend"))
    spec = importlib.util.spec_from_file_location("front_door", folder / "front_door.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = {"history_length": "4", "exclude_length": "3", "top_k": "2", "vocabulary_sha256": "v", "upstream": "student"}
    parameters = {name: {"string_value": value} for name, value in values.items()}
    model = module.TritonPythonModel()
    config = {"parameters": parameters, "input": [{"name": "history"}]}
    arguments = {"model_config": json.dumps(config), "model_repository": str(tmp_path), "model_version": "1"}
    model.initialize(arguments)
    return model


def test_front_door_reads_the_answers_of_a_student_on_a_gpu(front_door):
    request = {"history": Tensor("history", np.array([[b"b"], [b"a"]], np.object_))}
    (response,) = front_door.execute([request])
    assert not response.has_error(), response.error()
    assert response.tensors["item_ids"].as_numpy().tolist() == [[b"b", b"a"]] * 2
    assert response.tensors["scores"].as_numpy().tolist() == [[0.5, 0.25]] * 2
