"""pytest-benchmark suites that measure a finished run: ``pytest --benchmark-only`` after ``make demo``."""
