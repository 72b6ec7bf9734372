"""Frozen embeddings of item pictures by a vision model of ``transformers``."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel

from distilrec.config import ImageConfig
from distilrec.core.errors import ConfigError, DataError, DataWarning
from distilrec.core.progress import progress

_BATCH_SIZE = 32
_SHOWN = 3


@torch.inference_mode()
def embed_pictures(paths: Sequence[str], config: ImageConfig) -> Tensor:
    """Embeddings of picture files, of unit length; zeros, and a warning, where there is no picture or none that can be read.

    A model of pictures and text (CLIP) gives the vectors that it compares with texts; of others it is the mean of the last hidden
    states over all places.

    Args:
        paths: Path of the picture of each of n items; "" for none.
        config: The model.

    Returns:
        float32 [n, d].

    Raises:
        ConfigError: The model cannot be loaded.
        DataError: No picture can be read.
    """
    processor, model = _load(config)
    vectors: list[Tensor] = []
    readable = torch.zeros(len(paths), dtype=torch.bool)
    for start in progress(range(0, len(paths), _BATCH_SIZE), desc="pictures", unit="batch"):
        places = range(start, min(start + _BATCH_SIZE, len(paths)))
        found = {place: picture for place in places if (picture := _open(paths[place])) is not None}
        if found:
            vectors.append(_embed(model, processor(images=list(found.values()), return_tensors="pt")["pixel_values"]))
            readable[list(found)] = True
    if not vectors:
        raise DataError(
            f"found no picture that can be read among {len(paths):,} items (such as {paths[0]!r}), expected image files"
        )
    if not readable.all():
        missing = [paths[place] for place in (~readable).nonzero()[:_SHOWN, 0].tolist()]
        warnings.warn(
            f"{int((~readable).sum()):,} item(s) have no picture that can be read, such as {missing}", DataWarning, stacklevel=2
        )
    embeddings = torch.zeros(len(paths), vectors[0].shape[1])
    embeddings[readable] = torch.nn.functional.normalize(torch.cat(vectors).float(), dim=1)
    return embeddings


def _load(config: ImageConfig) -> tuple[Any, Any]:
    """Processor and model, from a folder or, by name, from the hub (or its cache)."""
    assert config.model is not None  # the settings of a run with pictures have one
    is_folder = Path(config.model).is_dir()
    where: dict[str, Any] = {"local_files_only": True} if is_folder else {"revision": config.revision}
    try:
        processor = AutoImageProcessor.from_pretrained(config.model, **where)  # type: ignore[no-untyped-call]
        return processor, AutoModel.from_pretrained(config.model, **where).eval()
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"image.model: found {str(config.model)!r}, which cannot be loaded ({reason}); expected a folder with config.json,"
            " model.safetensors and preprocessor_config.json, or the name of such a vision model on the hub"
        ) from error


def _open(path: str) -> Image.Image | None:
    try:
        return Image.open(path).convert("RGB") if path else None
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def _embed(model: Any, pixels: Tensor) -> Tensor:
    """float32 [b, 3, height, width] -> [b, d]."""
    if hasattr(model, "get_image_features"):
        features = model.get_image_features(pixel_values=pixels)
        vectors: Tensor = features if isinstance(features, Tensor) else features.pooler_output
        return vectors
    states: Tensor = model(pixel_values=pixels).last_hidden_state
    return states.flatten(2).mean(dim=2) if states.ndim == 4 else states.mean(dim=1)  # (B, d, h, w) or (B, places, d)
