"""The table of the comparison."""

from benchmarks.peers.table import peers_table


def test_table_shows_no_number_for_what_was_not_measured():
    rows = {
        "student": {"seconds_per_request": 0.0002, "ratio": 1.0, "ratio_p10": 1.0, "ratio_p90": 1.0},
        "peer": {"seconds_per_request": 0.001, "ratio": 5.0, "ratio_p10": 4.5, "ratio_p90": 6.0},
        "absent": {"not_measured": "ModuleNotFoundError: no\nmodule | here"},
    }
    text = peers_table({"model": {"item_count": 1682}, "contenders": rows, "reference": "student", "server_fault": "no server"})
    assert "| student | 0.200 | 1.00 |" in text
    assert "| peer | 1.000 | 5.00 (4.50 to 6.00) |" in text
    assert "| absent | not measured | ModuleNotFoundError: no module / here |" in text
    assert "Nothing was measured over the wire: no server" in text
