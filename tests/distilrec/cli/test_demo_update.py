"""What ``make demo-update`` begins with; the updates themselves are tested in tests/distilrec/pipeline/test_update.py."""

import polars as pl
import pytest

from distilrec.cli.demo_update import demo_config, write_blocks


@pytest.mark.network
def test_blocks_are_the_log_in_the_order_of_time_and_the_settings_fit(tmp_path):
    paths = write_blocks(tmp_path)
    blocks = [pl.read_parquet(path) for path in paths]
    times = pl.concat(blocks)["timestamp"]
    assert (len(times), times.is_sorted()) == (100_000, True)
    assert len(blocks[0]) > sum(map(len, blocks[1:]))
    config = demo_config(paths[0])
    assert list(config.teachers) == ["ease"]
    assert config.undistilled.epochs == config.student.epochs
