"""Which exports consider an approximate head."""

import builtins

import pytest

from distilrec.config import ExportConfig
from distilrec.core.errors import MissingExtraError
from distilrec.core.specs import RecommenderSpec
from export.heads.choose import FEWEST_ITEMS, considers_heads
from export.heads.runner import ApproximateRunner


@pytest.mark.parametrize(
    ("settings", "items", "considered"),
    [
        ({}, FEWEST_ITEMS - 1, False),
        ({}, FEWEST_ITEMS, True),
        ({"target": "onnxruntime"}, FEWEST_ITEMS, False),
        ({"head": "exhaustive"}, 10**6, False),
        ({"head": "approximate"}, 100, True),
    ],
)
def test_small_catalogues_and_other_targets_consider_none(settings, items, considered):
    assert considers_heads(ExportConfig(**settings), items) is considered


def test_missing_faiss_names_the_extra(tmp_path, monkeypatch):
    plain = builtins.__import__

    def without_faiss(name, *arguments):
        if name.startswith("export.heads.approximate"):
            raise ModuleNotFoundError("No module named 'faiss'", name="faiss")
        return plain(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_faiss)
    with pytest.raises(MissingExtraError, match=r"pip install 'distilrec\[scale\]'"):
        ApproximateRunner(tmp_path, RecommenderSpec(10, 5, 5, 5))
