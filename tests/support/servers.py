"""A repository of the tiny shop and a server that takes promotions."""

import shutil

import numpy as np
import pytest
from artefacts import edit_weights, record
from certificates import make_authority, make_certificate

from distilrec.serving.process.security import ControlSecret
from distilrec.serving.process.server import TritonServer, free_ports
from distilrec.serving.rollout.live import Server
from export.repository.fill import fill_repository


@pytest.fixture(scope="module")
def variant(shop_run, tmp_path_factory):
    """Artefacts with the shop's sizes and vocabulary, and with other weights."""

    def make(seed):
        folder = tmp_path_factory.mktemp("artefact") / "export"
        shutil.copytree(shop_run / "export", folder, ignore=shutil.ignore_patterns("engines"))
        random = np.random.default_rng(seed)
        edit_weights(folder, lambda values: values + random.normal(0, values.std(), values.shape))
        return record(folder)

    return make


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Our authority with a server and a client, and a foreign one with a client."""
    folder = tmp_path_factory.mktemp("tls")
    for authority, names in (("ours", ("server", "client")), ("theirs", ("stranger",))):
        make_authority(folder, authority)
        for name in names:
            make_certificate(folder, name, authority)
    return folder


@pytest.fixture
def serving_config(shop_run, shop_config, tmp_path):
    config = shop_config.export.model_copy(update={"repository": tmp_path / "repo", "instances": 1, "max_batch_size": 8})
    fill_repository(shop_run / "export", config)
    return config


@pytest.fixture
def promotable(serving_config, tmp_path):
    """A running server with model control."""
    secret = ControlSecret()
    with TritonServer(serving_config.repository, free_ports(), tmp_path / "log", secret=secret) as server:
        yield Server(server.url, secret, load_timeout_s=30)
