"""Weights of a trained encoder on disk: safetensors, with the item table folded, and the projection of its content."""

from pathlib import Path

from safetensors.torch import load_file, save_file

from distill.models.encoders import Encoder
from distill.models.item_content import save_projection

WEIGHTS = "weights.safetensors"


def save_weights(encoder: Encoder, folder: Path) -> None:
    """Write the projection of the items' content, fold the item table, and write what inference needs."""
    items = encoder.items
    if items.content is not None:
        save_projection(items.content, items.unknown, folder)
    items.fold()
    save_file(encoder.state_dict(), folder / WEIGHTS)


def load_weights(encoder: Encoder, folder: Path) -> None:
    """Fill an encoder that was built without content and popularity; it is in evaluation mode then."""
    encoder.load_state_dict(load_file(folder / WEIGHTS))
    encoder.eval()
