"""Between arrays and the messages of Triton's gRPC protocol; pure functions, and all that knows the protocol's fields."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from clients.errors import ClientError
from distilrec.core.specs import FRONT_DOOR_NAME, VOCABULARY_NAME, RecommenderSpec

_TRITON_DTYPES = {"int32": "INT32", "float32": "FP32"}
# The names and dtypes of the contract; sizes are those of the arrays.
_INPUTS, _OUTPUTS = (
    [(tensor.name, _TRITON_DTYPES[tensor.dtype], np.dtype(tensor.dtype).newbyteorder("<")) for tensor in tensors]
    for tensors in (RecommenderSpec(0, 0, 0, 0).inputs, RecommenderSpec(0, 0, 0, 0).outputs)
)


def infer_request(model: str, history: NDArray[np.int32], exclude: NDArray[np.int32]) -> Any:
    """A ModelInferRequest that asks ``model``, whichever version is served.

    Args:
        model: name of the model.
        history: int32 [B, L].
        exclude: int32 [B, E].
    """
    request = service_pb2.ModelInferRequest(model_name=model)
    for (name, datatype, dtype), values in zip(_INPUTS, (history, exclude), strict=True):
        request.inputs.add(name=name, datatype=datatype, shape=values.shape)
        request.raw_input_contents.append(values.astype(dtype, copy=False).tobytes())
    return request


def read_answer(response: Any, rows: int) -> tuple[NDArray[np.int32], NDArray[np.float32], str]:
    """Items int32 [B, K], scores float32 [B, K] and the version that answered, out of a ModelInferResponse.

    Raises:
        ClientError: these are not a recommender's tensors, or not of ``rows`` rows.
    """
    found = {
        output.name: (output.datatype, tuple(output.shape), raw)
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=False)
    }
    arrays = []
    for name, expected, dtype in _OUTPUTS:
        datatype, shape, raw = found.get(name, ("nothing", (), b""))
        if datatype != expected or len(shape) != 2 or shape[0] != rows or len(raw) != 4 * shape[0] * shape[1]:
            raise ClientError(
                f"model {response.model_name!r}: found {datatype} of shape {list(shape)} for {name!r}, expected {expected} of"
                f" {rows} row(s); it is not a DistilRec recommender"
            )
        arrays.append(np.frombuffer(raw, dtype).reshape(shape))
    items, scores = arrays
    if items.shape != scores.shape:
        raise ClientError(f"model {response.model_name!r}: found {items.shape} items and {scores.shape} scores")
    return items, scores, response.model_version


def front_door_request(histories: Sequence[Sequence[str]], excludes: Sequence[Sequence[str]], k: int) -> Any:
    """A ModelInferRequest for the front door, which takes ids as strings; empty strings fill the shorter rows.

    Args:
        histories: ids of B histories, oldest first.
        excludes: ids of B lists not to recommend.
        k: items wanted for each.
    """
    request = service_pb2.ModelInferRequest(model_name=FRONT_DOOR_NAME)
    for name, rows in (("history", histories), ("exclude", excludes)):
        width = max(1, *map(len, rows))
        padded = [[*row, *[""] * (width - len(row))] for row in rows]
        request.inputs.add(name=name, datatype="BYTES", shape=[len(rows), width])
        request.raw_input_contents.append(_strings([item_id.encode() for row in padded for item_id in row]))
    request.inputs.add(name="k", datatype="INT32", shape=[len(histories), 1])
    request.raw_input_contents.append(np.full(len(histories), k, "<i4").tobytes())
    return request


def read_front_door(response: Any) -> tuple[list[list[str]], NDArray[np.float32], str]:
    """Recommended ids of each row, best first and empty where there is none, their scores [B, k], and the version that answered.

    Raises:
        ClientError: there are none: the model of this name is not ours.
    """
    found = {output.name: (output.shape, raw) for output, raw in zip(response.outputs, response.raw_output_contents, strict=False)}
    if not found.keys() >= {"item_ids", "scores"}:
        raise ClientError(f"model {response.model_name!r}: found tensors {sorted(found)}, expected 'item_ids' and 'scores'")
    (shape, raw), ids, offset = found["item_ids"], [], 0
    while offset < len(raw):
        size = int.from_bytes(raw[offset : offset + 4], "little")
        ids.append(raw[offset + 4 : offset + 4 + size].decode())
        offset += 4 + size
    scores = np.frombuffer(found["scores"][1], "<f4").reshape(shape)
    return [ids[row * shape[1] : (row + 1) * shape[1]] for row in range(shape[0])], scores, response.model_version


def _strings(values: Sequence[bytes]) -> bytes:
    """Strings on the wire: each its length in four bytes, then itself."""
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


def vocabulary_request(offset: int) -> Any:
    """A ModelInferRequest for a part of the served vocabulary.json, from byte ``offset`` on."""
    request = service_pb2.ModelInferRequest(model_name=VOCABULARY_NAME)
    request.inputs.add(name="offset", datatype="INT64", shape=[1])
    request.raw_input_contents.append(np.int64(offset).tobytes())
    return request


def read_vocabulary_part(response: Any) -> tuple[bytes, int]:
    """The part's bytes, and how many the whole file has.

    Raises:
        ClientError: there are none: the model of this name is not ours.
    """
    found = {output.name: raw for output, raw in zip(response.outputs, response.raw_output_contents, strict=False)}
    # A string on the wire: its length in four bytes, then itself.
    part = found.get("content", b"")[4:]
    if not part or len(found.get("total_bytes", b"")) != 8:
        raise ClientError(f"model {response.model_name!r}: found tensors {sorted(found)}, expected part of a vocabulary")
    return part, int(np.frombuffer(found["total_bytes"], "<i8")[0])
