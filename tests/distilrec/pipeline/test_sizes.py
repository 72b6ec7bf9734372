"""Sizes of requests that follow from the run's data."""

import pytest

from distilrec.config import Config
from distilrec.core.errors import ManifestError
from distilrec.pipeline.stages import run_stage, with_sizes_of_data


def test_exclude_length_follows_from_the_longest_history_unless_it_is_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"u{user},i{place % 400},{place}" for user, length in enumerate((500, 30, 30)) for place in range(length)]
    (tmp_path / "logs.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    data = {"interactions": "logs.csv", "k_core": 1, "split": "leave_one_out"}
    config = Config.model_validate({"name": "shop", "data": data})
    with pytest.raises(ManifestError, match="found no manifest"):
        with_sizes_of_data(config)
    run_stage(config, "data")
    assert with_sizes_of_data(config).export.exclude_length == 400  # all items are older than the newest 50
    named = config.model_copy(update={"export": config.export.model_copy(update={"exclude_length": 7})})
    assert with_sizes_of_data(named) is named
