"""Embeddings of pictures by a tiny random vision model."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTImageProcessorPil, ViTModel

from distill.models.image import embed_pictures
from distilrec.config import ImageConfig
from distilrec.core.errors import ConfigError, DataError, DataWarning

TOWER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
PIXELS = {"image_size": 32, "patch_size": 8}


@pytest.fixture(params=["vit", "clip"])
def vision_model(request, tmp_path):
    torch.manual_seed(0)
    vit = request.param == "vit"
    vision = TOWER | PIXELS
    model = (
        ViTModel(ViTConfig(**vision)) if vit else CLIPModel(CLIPConfig(text_config=TOWER, vision_config=vision, projection_dim=12))
    )
    model.save_pretrained(tmp_path / "model")
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "model")
    return ImageConfig(model=str(tmp_path / "model")), 16 if vit else 12


def picture(folder, name, seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return str(folder / name)


def test_pictures_become_vectors_of_unit_length_whatever_is_in_their_batch(vision_model, tmp_path):
    config, size = vision_model
    paths = [picture(tmp_path, f"{place}.png", place) for place in range(3)]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.warns(DataWarning, match=r"2 item\(s\) have no picture that can be read"):
        found = embed_pictures([*paths, "", str(tmp_path / "broken.png")], config)
    assert found.shape == (5, size)
    torch.testing.assert_close(found.norm(dim=1), torch.tensor([1.0, 1, 1, 0, 0]))
    torch.testing.assert_close(embed_pictures(paths[1:2], config), found[1:2])
    assert (found[0] - found[1]).abs().max() > 1e-4


def test_nothing_that_can_be_read_is_an_error(vision_model, tmp_path):
    with pytest.raises(DataError, match="found no picture that can be read among 1 items"):
        embed_pictures([str(tmp_path / "none.png")], vision_model[0])
    with pytest.raises(ConfigError, match="which cannot be loaded"):
        embed_pictures(["x"], ImageConfig(model=str(tmp_path)))
