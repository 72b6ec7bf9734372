"""Checks of a version's files; damaged artefacts are also in test_live.py, under load."""

import shutil

import pytest

from distilrec.config import ExportConfig
from distilrec.core.errors import ParityError, RepositoryError
from distilrec.core.golden import Golden, load_golden
from distilrec.core.manifest import read_manifest, record_files, write_manifest
from distilrec.serving.rollout.checks import check_artefact, check_copy


def test_version_without_model_py_is_never_loaded(tmp_path, shop_run):
    with pytest.raises(RepositoryError, match=r"found no model\.py"):
        check_copy(shop_run / "export", read_manifest(shop_run / "export"), tmp_path)


def test_golden_answers_of_another_model_are_refused(shop_run, tmp_path):
    artefact = tmp_path / "export"
    shutil.copytree(shop_run / "export", artefact)
    golden = load_golden(artefact / "golden.npz")
    Golden(golden.history, golden.exclude, golden.items, golden.scores + 1).save(artefact / "golden.npz")
    write_manifest(artefact, read_manifest(artefact).model_copy(update={"files": record_files(artefact)}))
    with pytest.raises(ParityError, match="golden answers"):
        check_artefact(artefact, ExportConfig())
