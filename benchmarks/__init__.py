"""pytest-benchmark suites on what a finished run left: ``pytest --benchmark-only`` after ``make demo``."""
