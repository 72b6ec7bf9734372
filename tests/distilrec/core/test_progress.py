"""Progress where stderr is no terminal: whole lines with times."""

import re

from distilrec.core.progress import ProgressLines, progress


def test_a_short_step_writes_nothing(capsys):
    assert list(progress(range(3), desc="short", unit="batch", leave=False)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_long_step_writes_whole_lines_with_times(capsys):
    with ProgressLines(total=4000, initial=1000, desc="recommend", unit="rows", every_s=0) as bar:
        bar.update(1500)
        bar.update(1500)
    list(ProgressLines(iter("ab"), desc="unknown length", every_s=0))
    lines = capsys.readouterr().err.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines)
    assert [line[20:] for line in lines] == [
        "recommend: 2,500 of 4,000 (rows), 0 s",
        "recommend: 4,000 of 4,000 (rows), 0 s",
        "unknown length: 1 (step), 0 s",
        "unknown length: 2 (step), 0 s",
    ]
