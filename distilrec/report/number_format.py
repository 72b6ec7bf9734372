"""How the report and the README write numbers."""

from distilrec.report.evaluation_file import MeanWithInterval


def percent(share: float, sign: str = "") -> str:
    """Format a share as a percentage: 99.3 %."""
    return f"{share * 100:{sign}.1f}\N{NO-BREAK SPACE}%"


def times(factor: float) -> str:
    """Format a factor: 58x, 3.2x."""
    return f"{factor:.0f}x" if factor >= 10 else f"{factor:.1f}x"


def milliseconds(value: float) -> str:
    """Format milliseconds with three digits: 0.113, 6.17, 143."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def megabytes(size_bytes: float) -> str:
    """Format bytes as megabytes: 0.60 MB, 14.7 MB, 256 MB."""
    value = size_bytes / 1e6
    digits = f"{value:.2f}" if value < 1 else f"{value:.3g}" if value < 100 else f"{value:,.0f}"
    return f"{digits}\N{NO-BREAK SPACE}MB"


def share_with_interval(value: MeanWithInterval) -> str:
    """Format a share with its interval: 99.3 % [97.0 %, 101.8 %]."""
    if value.low is None or value.high is None:
        return percent(value.mean)
    return f"{percent(value.mean)} [{percent(value.low)}, {percent(value.high)}]"


def number_with_interval(value: MeanWithInterval, sign: str = "") -> str:
    """Format a number with its interval: 0.0603 [0.0577, 0.0630]."""
    if value.low is None or value.high is None:
        return f"{value.mean:{sign}.4f}"
    return f"{value.mean:{sign}.4f} [{value.low:{sign}.4f}, {value.high:{sign}.4f}]"
