"""From recorded requests to the figures of a finished run, and on to the watchdog's metrics."""

import re

from clients.recorder import Recorder
from distilrec.core.recorded import RecordedRequest
from distilrec.pipeline.drift import measure, write
from distilrec.serving.health.drift import drift_metrics


def test_recorded_requests_become_metrics(shop_run, shop_config, tmp_path, monkeypatch):
    monkeypatch.chdir(shop_run.parents[1])
    assert drift_metrics(tmp_path) == []
    recorder = Recorder(tmp_path / "requests", share=1)
    for user in range(300):
        recorder.write(RecordedRequest((f"item-{user % 90}", f"item-{user % 7}", "nobody knows it")))
    found, broken = measure(shop_config, tmp_path / "requests", 250)
    assert (found.requests, broken, found.drifted) == (250, 0, True)
    assert found.unknown_share == 1 / 3
    write(found, tmp_path / "drift.json")
    values = dict(re.findall(r"^(distilrec_drift_\w+) (\S+)$", "\n".join(drift_metrics(tmp_path)), re.M))
    assert float(values["distilrec_drift_unknown_share"]) == found.unknown_share
    assert float(values["distilrec_drift_history_length_index"]) == found.length_index
    assert float(values["distilrec_drift_requests"]) == 250
    (tmp_path / "drift.json").write_text("{broken")
    assert drift_metrics(tmp_path) == []
