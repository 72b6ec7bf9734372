"""Several graphs that keep their large constants in one file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import external_data_helper, numpy_helper

from export.artefact import WEIGHTS_FILE

_SMALLEST_SHARED_BYTES = 512
"""Smaller constants stay in the graphs: to share them would save less than their references cost."""

_ALIGNMENT_BYTES = 64
"""Constants start at multiples of a cache line."""


def save_sharing_weights(models: Mapping[str, onnx.ModelProto], folder: Path) -> None:
    """Write graphs by file name, with their large constants in one common file (``WEIGHTS_FILE``), equal ones once.

    The models are left without these constants.

    Args:
        models: Graphs by the name of the file to write, weights inside.
        folder: Existing folder of all files.
    """
    places: dict[bytes, int] = {}
    with (folder / WEIGHTS_FILE).open("wb") as file:
        for model in models.values():
            for tensor in model.graph.initializer:
                content = np.ascontiguousarray(numpy_helper.to_array(tensor)).tobytes()
                if len(content) < _SMALLEST_SHARED_BYTES:
                    continue
                if content not in places:
                    file.write(bytes(-file.tell() % _ALIGNMENT_BYTES))
                    places[content] = file.tell()
                    file.write(content)
                tensor.raw_data = content
                external_data_helper.set_external_data(tensor, WEIGHTS_FILE, places[content], len(content))
                tensor.ClearField("raw_data")
    for name, model in models.items():
        onnx.save(model, folder / name)
        onnx.checker.check_model(folder / name)
