"""Benchmarks run only when asked for, on the run that ``--run-preset`` names."""

import pytest

from distilrec.config import Config, load_config
from distilrec.pipeline import run_dir


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-preset", default="ml-100k", help="preset of the finished run to measure (default: %(default)s)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("benchmark_only"):
        for item in items:
            if item.path.parent.name == "benchmarks":
                item.add_marker(pytest.mark.skip(reason="benchmarks run with: pytest --benchmark-only"))


@pytest.fixture(scope="session")
def finished(request: pytest.FixtureRequest) -> Config:
    config = load_config(request.config.getoption("--run-preset"))
    if not (run_dir(config) / "export" / "manifest.json").exists():
        pytest.skip(f"found no {run_dir(config) / 'export'}; run first: make demo PRESET={config.name}")
    return config
