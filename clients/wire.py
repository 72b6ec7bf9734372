"""Conversion between arrays and the messages of Triton's gRPC protocol; pure functions."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from clients.errors import ClientError
from clients.methods import InferResponse, Request
from distilrec.core.runner import NOTHING_CHOSEN, Choices
from distilrec.core.specs import FRONT_DOOR_NAME, VOCABULARY_NAME, RecommenderSpec

_TRITON_DTYPES = {"int32": "INT32", "float32": "FP32"}
# The names and dtypes of the contract; sizes are those of the arrays.
_OUTPUTS = [
    (tensor.name, _TRITON_DTYPES[tensor.dtype], np.dtype(tensor.dtype).newbyteorder("<"))
    for tensor in RecommenderSpec(0, 0, 0, 0).outputs
]
_INT32 = np.dtype(np.int32).newbyteorder("<")


class ModelAnswer(NamedTuple):
    """What a recommender answered to B histories."""

    items: NDArray[np.int32]
    """int32 [B, K]: item indices, best first, padded with 0."""
    scores: NDArray[np.float32]
    """float32 [B, K]: scores of ``items``."""
    model_version: str


def infer_request(model: str, history: NDArray[np.int32], exclude: NDArray[np.int32], choices: Choices = NOTHING_CHOSEN) -> Request:
    """Make a ModelInferRequest to ``model``, without a version: whichever is served may answer.

    Args:
        model: name of the model.
        history: int32 [B, L]: item indices, oldest first, padded with 0 on the left.
        exclude: int32 [B, E]: item indices that must not be recommended, padded with 0.
        choices: All optional tensors that the model has, int32 [B, ...].
    """
    request = service_pb2.ModelInferRequest(model_name=model)
    for name, values in (("history", history), ("exclude", exclude), *choices.items()):
        request.inputs.add(name=name, datatype=_TRITON_DTYPES["int32"], shape=values.shape)
        request.raw_input_contents.append(values.astype(_INT32, copy=False).tobytes())
    return request


def read_answer(response: InferResponse, rows: int) -> ModelAnswer:
    """Read a ModelInferResponse.

    Args:
        response: the message.
        rows: B, how many histories were sent.

    Raises:
        ClientError: these are not a recommender's tensors, or they do not have ``rows`` rows.
    """
    tensors = {
        output.name: (output.datatype, tuple(output.shape), raw)
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=False)
    }
    arrays = []
    for name, expected, dtype in _OUTPUTS:
        datatype, shape, raw = tensors.get(name, ("nothing", (), b""))
        if datatype != expected or len(shape) != 2 or shape[0] != rows or len(raw) != 4 * shape[0] * shape[1]:
            raise ClientError(
                f"model {response.model_name!r}: found {datatype} of shape {list(shape)} for {name!r}, expected {expected} of"
                f" {rows} row(s); it is not a DistilRec recommender"
            )
        arrays.append(np.frombuffer(raw, dtype).reshape(shape))
    items, scores = arrays
    if items.shape != scores.shape:
        raise ClientError(f"model {response.model_name!r}: found {items.shape} items and {scores.shape} scores")
    return ModelAnswer(items, scores, response.model_version)


def front_door_request(
    histories: Sequence[Sequence[str]],
    excludes: Sequence[Sequence[str]],
    k: int,
    choices: Mapping[str, Any] = NOTHING_CHOSEN,
    model: str = FRONT_DOOR_NAME,
) -> Request:
    """Make a ModelInferRequest to the front door, which takes ids as strings; empty strings fill the shorter rows.

    Args:
        histories: B lists of item ids, oldest first.
        excludes: B lists of item ids that must not be recommended.
        k: Number of items wanted for each history.
        choices: Optional inputs by name: ``filter``, B lists of texts such as "category=Nails"; ``allow``, B lists of item ids;
            ``repeats``, B lists with one text; ``similar``, int32 [B, 1].
        model: Name of the front door.
    """
    request = service_pb2.ModelInferRequest(model_name=model)
    texts = {name: rows for name, rows in choices.items() if name != "similar"}
    for name, rows in (("history", histories), ("exclude", excludes), *texts.items()):
        width = max(1, *map(len, rows))
        padded = [[*row, *[""] * (width - len(row))] for row in rows]
        request.inputs.add(name=name, datatype="BYTES", shape=[len(rows), width])
        request.raw_input_contents.append(_strings([item_id.encode() for row in padded for item_id in row]))
    numbers = {"k": np.full((len(histories), 1), k), **({"similar": choices["similar"]} if "similar" in choices else {})}
    for name, values in numbers.items():
        request.inputs.add(name=name, datatype="INT32", shape=values.shape)
        request.raw_input_contents.append(values.astype(_INT32).tobytes())
    return request


def read_front_door(response: InferResponse) -> tuple[list[list[str]], NDArray[np.float32], str]:
    """Read the front door's ModelInferResponse.

    Returns:
        For each of B histories the k item ids, best first, empty strings at the end where fewer are left; their scores float32
        [B, k]; and the model version that answered.

    Raises:
        ClientError: tensors are missing, so the model of this name is not ours.
    """
    tensors = {
        output.name: (output.shape, raw) for output, raw in zip(response.outputs, response.raw_output_contents, strict=False)
    }
    if not tensors.keys() >= {"item_ids", "scores"}:
        raise ClientError(f"model {response.model_name!r}: found tensors {sorted(tensors)}, expected 'item_ids' and 'scores'")
    (shape, raw), ids, offset = tensors["item_ids"], [], 0
    while offset < len(raw):
        size = int.from_bytes(raw[offset : offset + 4], "little")
        ids.append(raw[offset + 4 : offset + 4 + size].decode())
        offset += 4 + size
    scores = np.frombuffer(tensors["scores"][1], "<f4").reshape(shape)
    return [ids[row * shape[1] : (row + 1) * shape[1]] for row in range(shape[0])], scores, response.model_version


def _strings(values: Sequence[bytes]) -> bytes:
    """Encode strings as Triton does: each as its length in four bytes, then its bytes."""
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


def vocabulary_request(offset: int, model: str = VOCABULARY_NAME) -> Request:
    """Make a ModelInferRequest for a part of the served vocabulary.json, from byte ``offset`` on, to the model that sends it."""
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="offset", datatype="INT64", shape=[1])
    request.raw_input_contents.append(np.int64(offset).tobytes())
    return request


def read_vocabulary_part(response: InferResponse) -> tuple[bytes, int]:
    """Read the bytes of a part of vocabulary.json, and the size of the whole file in bytes.

    Raises:
        ClientError: tensors are missing, so the model of this name is not ours.
    """
    tensors = {output.name: raw for output, raw in zip(response.outputs, response.raw_output_contents, strict=False)}
    # A string comes as its length in four bytes, then its bytes.
    part = tensors.get("content", b"")[4:]
    if not part or len(tensors.get("total_bytes", b"")) != 8:
        raise ClientError(f"model {response.model_name!r}: found tensors {sorted(tensors)}, expected part of a vocabulary")
    return part, int(np.frombuffer(tensors["total_bytes"], "<i8")[0])
