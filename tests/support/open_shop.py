"""The tiny shop with an open catalogue: categories, prices and vectors of items, some that nobody has touched, some held out."""

import numpy as np
import polars as pl
import pytest

from distilrec.config import Config
from distilrec.pipeline.stages import run_all, run_dir

TOUCHED, LISTED, GENRES = 90, 100, 6


def products(indices):
    """Rows of a catalogue for items of these numbers: what is known of an item follows from its genre."""
    return pl.DataFrame(
        {
            "item_id": [f"item-{i}" for i in indices],
            "title": [f"genre {i % GENRES} number {i}" for i in indices],
            "genre": [[f"g{i % GENRES}", "all"] for i in indices],
            "price": [None if i % 10 == 3 else float(10 * (i % GENRES) + i % 3) for i in indices],
        }
    )


def write_vectors(path, indices):
    vectors = np.eye(GENRES)[np.array(indices) % GENRES] + 0.1
    pl.DataFrame({"item_id": [f"item-{i}" for i in indices], "vector": vectors.tolist()}).write_parquet(path)


@pytest.fixture(scope="session")
def open_config(shop_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("open")
    products(range(LISTED)).write_parquet(folder / "products.parquet")
    write_vectors(folder / "image.parquet", range(LISTED))
    settings = shop_config.model_dump()
    settings |= {"name": "open", "qad": {"use": "off"}}
    settings["data"] |= {
        "items": folder / "products.parquet",
        "features": {"categories": ["genre"], "numbers": ["price"]},
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
