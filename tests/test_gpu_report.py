"""The report of ``make test-gpu``, from what it has where there is no GPU."""

from gpu_report import Outcome, render

from distilrec.serving.doctor import InstalledPart


def test_report_holds_machine_measurements_and_reasons():
    parts = [InstalledPart("gpu", False, "found none"), InstalledPart("numpy", None, "1.26.4")]
    outcomes = [
        Outcome("test_a.py::test_x", "passed", 1.25, "", {"p50 ms": 0.12345, "verdict": "int8 ships"}),
        Outcome("test_a.py::test_y", "skipped", 0.0, "no GPU | no test", {}),
    ]
    text = render(parts, outcomes)
    assert "1 passed, 0 failed, 1 skipped" in text
    assert "| gpu | **no** | found none |\n| numpy |  | 1.26.4 |" in text
    assert "| p50 ms | 0.123 |\n| verdict | int8 ships |" in text
    assert "| test_a.py::test_y | skipped | 0.0 | no GPU / no test |" in text
