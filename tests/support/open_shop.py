"""The tiny shop with an open catalogue: categories, prices and vectors of items, some that nobody has touched, some held out."""

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from distilrec.config import Config
from distilrec.pipeline.folders import run_dir
from distilrec.pipeline.stages import run_all

TOUCHED, LISTED, GENRES = 90, 100, 6


def products(indices, photos):
    """Rows of a catalogue for items of these numbers: what is known of an item follows from its genre."""
    return pl.DataFrame(
        {
            "item_id": [f"item-{i}" for i in indices],
            "title": [f"genre {i % GENRES} number {i}" for i in indices],
            "genre": [[f"g{i % GENRES}", "all"] for i in indices],
            "price": [None if i % 10 == 3 else float(10 * (i % GENRES) + i % 3) for i in indices],
            "photo": [str(photos / f"{i % GENRES}.png") for i in indices],
        }
    )


def write_vectors(path, indices):
    vectors = np.eye(GENRES)[np.array(indices) % GENRES] + 0.1
    pl.DataFrame({"item_id": [f"item-{i}" for i in indices], "vector": vectors.tolist()}).write_parquet(path)


def write_photos(folder):
    """A picture for each genre, and a tiny random model that reads them; returns the model."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(**sizes, image_size=16, patch_size=8)).save_pretrained(folder / "vit")
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder / "vit")
    for genre in range(GENRES):
        Image.fromarray(np.full((20, 20, 3), 40 * genre, np.uint8)).save(folder / f"{genre}.png")
    return folder / "vit"


@pytest.fixture(scope="session")
def open_config(shop_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("open")
    products(range(LISTED), folder).write_parquet(folder / "products.parquet")
    write_vectors(folder / "image.parquet", range(LISTED))
    settings = shop_config.model_dump()
    settings |= {"name": "open", "qad": {"use": "off"}, "image": {"model": str(write_photos(folder))}}
    settings["data"] |= {
        "items": folder / "products.parquet",
        "features": {"categories": ["genre"], "numbers": ["price"], "pictures": ["photo"]},
        "vectors": {"image": {"file": folder / "image.parquet"}},
        "untouched": True,
        "cold_fraction": 0.1,
        "users": None,
        "attributes": None,
    }
    settings["teachers"]["sequence"] |= {"epochs": 4, "content": ["genre", "image"]}
    settings["student"] |= {"epochs": 4, "id_dropout": 0.3}
    settings["undistilled"] = {"epochs": 1}
    settings["export"] |= {"repository": folder / "triton_repo"}
    return Config.model_validate(settings)


@pytest.fixture(scope="session")
def open_run(open_config, tmp_path_factory):
    """All stages, run once for all tests; returns the run's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("open-work"))
        run_all(open_config)
        yield run_dir(open_config).absolute()
