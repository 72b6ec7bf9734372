import stat

import pytest

from clients.codec import Query, Recommendations
from clients.errors import ClientError
from clients.recorder import Recorder
from distilrec.core.errors import DataError
from distilrec.core.recorded import RecordedRequest, parse_line, read_requests

ANSWER = Recommendations(("x", "y"), (1.0, 0.5), ("X", "Y"), (), "3", 0.7)


def test_files_rotate_and_are_the_owners_alone(tmp_path):
    recorder = Recorder(tmp_path / "requests", share=1, max_bytes=1000, files=3)
    for number in range(100):
        recorder.offer(Query([f"item-{number}"], filter={"category": "Nails"}), ANSWER)
    files = list((tmp_path / "requests").iterdir())
    assert len(files) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert all(path.stat().st_size <= 1000 for path in files)
    requests, _ = read_requests(tmp_path / "requests")
    assert requests[-1].history == ("item-99",)
    assert (requests[-1].shown, requests[-1].version, requests[-1].options) == (
        ("x", "y"),
        "3",
        {"filter": {"category": ["Nails"]}},
    )


def test_sample_has_about_its_share(tmp_path):
    recorder = Recorder(tmp_path, share=0.1, seed=0)
    for _ in range(2000):
        recorder.offer(Query(["a"]), ANSWER)
    assert 150 < recorder.recorded < 250


def test_disk_that_cannot_be_written_fails_no_request(tmp_path):
    (tmp_path / "file").write_text("")
    recorder = Recorder(tmp_path / "file", share=1)
    recorder.offer(Query(["a"]), ANSWER)
    assert (recorder.recorded, recorder.failed) == (0, 1)
    with pytest.raises(ClientError, match="expected 0 to 1"):
        Recorder(tmp_path, share=2)


def test_broken_lines_are_counted(tmp_path):
    request = RecordedRequest(("a",), ("b",), propensities=(0.5,), rewards=(1.0,))
    assert parse_line(request.to_line()) == request
    broken = ['{"history": ["a"', "[]", '{"history": "abc"}', '{"history": [], "shown": ["a"], "propensities": [0.0]}',
              '{"history": [], "shown": ["a"], "rewards": [1, 2]}']  # fmt: skip
    (tmp_path / "requests.jsonl").write_text("\n".join([request.to_line(), *broken]))
    assert read_requests(tmp_path) == ([request], len(broken))
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="found no recorded request"):
        read_requests(empty)
