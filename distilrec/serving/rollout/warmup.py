"""A version's first requests: recorded ones, which the server runs itself before it accepts requests of clients."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import serialize_byte_tensor

from distilrec.core import golden
from distilrec.core.specs import FRONT_DOOR_NAME, MODEL_NAME
from distilrec.data import vocabulary as vocabularies
from distilrec.data.vocabulary import Vocabulary, load_vocabulary
from export.artefact import CALIBRATION_FILE
from export.repository.versions import WARMUP, parse_config

REQUESTS = 8
"""Number of recorded requests."""


def write(artefact: Path, model: Path, version: int, text: str) -> str:
    """Write a version's warm-up requests next to its folder.

    Each request is sent alone, and the longest also as a full batch. The warm-up is a gate too: the server refuses a version that
    fails one of them before a client can reach it.

    Args:
        artefact: Export whose calibration requests are taken (recorded traffic if there was any, else drawn from the training
            data), or its golden requests if it has none.
        model: The model's folder in the repository.
        version: Number of the version.
        text: The version's config.pbtxt so far.

    Returns:
        The text to append to config.pbtxt, which names the requests.
    """
    config, addition = parse_config(text), model_config_pb2.ModelConfig()
    requests = list(_requests(artefact, config))
    for row, tensors in enumerate(requests):
        for size in (1, config.max_batch_size) if row == len(requests) - 1 else (1,):
            sample = addition.model_warmup.add(name=f"recorded request {row}, {size} at once", batch_size=size, count=1)
            for tensor, (values, datatype) in tensors.items():
                entry = sample.inputs[tensor]
                entry.data_type, entry.input_data_file = datatype, f"{version}.{row}.{tensor}"
                entry.dims.extend(values.shape)
                path = model / WARMUP / entry.input_data_file
                path.parent.mkdir(exist_ok=True)
                raw = serialize_byte_tensor(values).item() if values.dtype == np.object_ else values.tobytes()
                path.write_bytes(raw)
    return str(text_format.MessageToString(addition))


def _requests(artefact: Path, config: model_config_pb2.ModelConfig) -> Iterable[dict[str, tuple[NDArray[np.generic], int]]]:
    """Tensors of each request, by name, with their data type; the longest history last. Optional tensors choose nothing."""
    model = config.name
    if model not in {MODEL_NAME, FRONT_DOOR_NAME}:
        return
    recorded_file = artefact / CALIBRATION_FILE
    with np.load(recorded_file if recorded_file.exists() else artefact / golden.FILE_NAME, allow_pickle=False) as recorded:
        history, exclude = recorded["history"], recorded["exclude"]
    lengths = np.count_nonzero(history, axis=1)
    # Spread evenly over the history lengths.
    rows = np.argsort(lengths, kind="stable")[np.linspace(0, len(lengths) - 1, min(REQUESTS, len(lengths))).astype(int)]
    vocabulary = load_vocabulary(artefact / vocabularies.FILE_NAME)
    for row in rows:
        if model == FRONT_DOOR_NAME:
            yield {"history": (_ids(history[row], vocabulary), model_config_pb2.TYPE_STRING)}
        else:
            arrays = {tensor.name: np.zeros(list(tensor.dims), np.int32) for tensor in config.input}
            arrays |= {"history": history[row], "exclude": exclude[row]}
            yield {name: (values, model_config_pb2.TYPE_INT32) for name, values in arrays.items()}


def _ids(history: NDArray[np.int32], vocabulary: Vocabulary) -> NDArray[np.object_]:
    """The known item ids of a history, as bytes; one empty id for an empty history, which means the same to the model."""
    known = vocabulary.decode(history[(history > 0) & (history <= len(vocabulary))].tolist())
    return np.array([item_id.encode() for item_id in known] or [b""], np.object_)
