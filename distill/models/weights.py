"""Weights of a trained encoder on disk: safetensors, with the item table folded."""

from pathlib import Path

from safetensors.torch import load_file, save_file

from distill.models.encoders import Encoder

WEIGHTS = "weights.safetensors"


def save_weights(encoder: Encoder, folder: Path) -> None:
    """Fold the item table and write what inference needs."""
    encoder.items.fold()
    save_file(encoder.state_dict(), folder / WEIGHTS)


def load_weights(encoder: Encoder, folder: Path) -> None:
    """Fill an encoder that was built without text and popularity; it is in evaluation mode then."""
    encoder.load_state_dict(load_file(folder / WEIGHTS))
    encoder.eval()
