"""A tiny shop: synthetic interactions with structure to learn, a tiny random BERT, and one run of all stages on them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from choosing import choosing_config, choosing_run, choosing_server  # noqa: F401
from disks import small_disk  # noqa: F401
from gpu_report import GpuReport
from open_shop import open_config, open_run  # noqa: F401
from reports import benchmark_content, evaluated_shop, measured, report_content, tune_config  # noqa: F401
from servers import certificates, promotable, serving_config, variant  # noqa: F401
from supervised import serve  # noqa: F401

from distilrec.config import Config
from distilrec.serving.process.server import TritonServer, free_ports

USERS, ITEMS, GENRES = 240, 90, 6


def write_shop(folder: Path) -> tuple[Path, Path]:
    """Interactions in which users mostly stay within a genre; returns interactions.csv and items.csv."""
    random = np.random.default_rng(7)
    rows = []
    for user in range(USERS):
        genre = int(random.integers(GENRES))
        own = [item for item in range(ITEMS) if item % GENRES == genre]
        other = [item for item in range(ITEMS) if item % GENRES != genre]
        basket = [*random.choice(own, 10, replace=False), *random.choice(other, int(random.integers(2, 8)), replace=False)]
        random.shuffle(basket)
        rows += [f"u{user:03d},item-{item},{1000 + 10 * place + user}" for place, item in enumerate(basket)]
    interactions, items = folder / "interactions.csv", folder / "items.csv"
    interactions.write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    items.write_text("item_id,title\n" + "\n".join(f"item-{i},genre {i % GENRES} number {i}" for i in range(ITEMS)) + "\n")
    return interactions, items


def write_users(folder: Path) -> Path:
    """What is known of the shop's users: two columns to judge groups by, one of them a number."""
    path = folder / "users.csv"
    path.write_text("user_id,plan,age\n" + "".join(f"u{u:03d},{'free' if u % 3 else 'paid'},{20 + u % 40}\n" for u in range(USERS)))
    return path


def write_tiny_bert(folder: Path) -> Path:
    """A random BERT of a few thousand parameters and a tokenizer, saved as a pretrained one would be."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(0)
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "genre", "number", *map(str, range(ITEMS))]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("bert") / "tiny")


@pytest.fixture(scope="session")
def shop_config(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Config:
    folder = tmp_path_factory.mktemp("shop")
    interactions, items = write_shop(folder)
    training = {"epochs": 3, "batch_size": 32, "dropout": 0.1, "learning_rate": 0.01}
    return Config.model_validate(
        {
            "name": "shop",
            "history_length": 12,
            "data": {
                "interactions": interactions,
                "items": items,
                "users": write_users(folder),
                "attributes": ["plan", "age"],
                "split": "leave_one_out",
                "k_core": 2,
            },
            "text": {"model": tiny_bert},
            "teachers": {"sequence": {"kind": "sequence", **training, "embedding_size": 16, "heads": 2, "layers": 1}},
            "targets": {"top_n": 20, "perturbed_copies": 0},
            "student": {
                **training,
                "schedule": "constant",
                "distillation": {"hard": 0.5, "soft": 0.5},
                "embedding_size": 8,
                "hidden_size": 16,
            },
            "qad": {"use": "on", "epochs": 1, "batch_size": 32},
            # The tests need to know what is served: what is fastest differs between machines. The undistilled student ranks better.
            "export": {
                "exclude_length": 16,
                "top_k": 20,
                "student": "distilled",
                "precision": "fp32",
                "repository": folder / "triton_repo",
            },
        }
    )


@pytest.fixture(scope="session")
def shop_run(shop_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All stages, run once for all tests; returns the run's folder."""
    from distilrec.pipeline.folders import run_dir
    from distilrec.pipeline.stages import run_all

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        run_all(shop_config)
        yield run_dir(shop_config).absolute()


@pytest.fixture(scope="session")
def shop_server(shop_run: Path, shop_config: Config) -> Iterator[TritonServer]:
    """A real tritonserver that serves the tiny shop's student, with HTTP open to all."""
    with TritonServer(shop_config.export.repository, free_ports(), shop_run / "tritonserver.log", http=True) as server:
        yield server


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--hostile-s", type=float, default=8.0, help="seconds of hostile load; 600 is the bar, default %(default)s")
    parser.addoption("--kills", type=int, default=2, help="times that an update is killed; 10 is the bar, default %(default)s")
    parser.addoption("--gpu-report", type=Path, help="file for the report of the tests on a GPU")


def pytest_configure(config: pytest.Config) -> None:
    if path := config.getoption("--gpu-report"):
        config.pluginmanager.register(GpuReport(path))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set the markers that follow from fixtures; ``fast`` is what has none of the others."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & {"shop_run", "open_run"}:
            item.add_marker(pytest.mark.pipeline)
        if fixtures & {"shop_server", "choosing_server", "promotable"}:
            item.add_marker(pytest.mark.server)
        if not any(item.get_closest_marker(name) for name in ("pipeline", "server", "network", "gpu", "benchmark")):
            item.add_marker(pytest.mark.fast)
