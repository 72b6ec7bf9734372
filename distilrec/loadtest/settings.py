"""Settings of a load; validated here once."""

import os
from dataclasses import dataclass
from typing import Any

from clients.connection import Connection
from distilrec.core.errors import ConfigError
from distilrec.loadtest.slo import Slo
from distilrec.loadtest.statistics import answers_needed

LONGEST_S = 3600.0
"""Longest load in seconds, so that a forgotten one ends by itself."""

LONGEST_PROBE_S = 60.0
"""A probe lasts longer than ``duration_s`` where the goal's quantile needs more answers, but no longer than this."""

_MORE_THAN_NEEDED = 1.5
_MOST_REQUESTS = 10_000_000


def default_processes() -> int:
    """Return the number of client processes: one sends at most about 2,500 requests/s; half of the cores are left to the server."""
    return min(8, max(2, (os.cpu_count() or 2) // 2))


@dataclass(frozen=True)
class LoadSettings:
    """Requests to send, and for how long.

    Raises:
        ConfigError: invalid settings; the message lists all faults.
    """

    connection: Connection
    """To Triton's gRPC endpoint."""
    model: str
    rate_per_s: float | None
    """Mean arrivals per second of an open loop, with ``slo`` the first rate to try; None in a closed loop."""
    concurrency: int | None
    """Requests in flight of a closed loop; None in an open one."""
    duration_s: float
    """Seconds in which requests are sent; in a search, of each probe."""
    processes: int
    timeout_s: float
    """Seconds each request may take."""
    zipf_exponent: float
    seed: int
    slo: Slo | None = None
    probes: int = 12
    """Largest number of probes in a search."""
    filter_share: float = 0.0
    """Share of the requests that filter by one value of an attribute, drawn at random."""

    def __post_init__(self) -> None:
        ranges = {
            "--rate": (self.rate_per_s, 0.01, 1e6),
            "--concurrency": (self.concurrency, 1, 4096),
            "--duration-s": (self.duration_s, 0.1, LONGEST_S),
            "--processes": (self.processes, 1, 64),
            "--timeout-s": (self.timeout_s, 0.001, 600.0),
            "--zipf": (self.zipf_exponent, 0.0, 5.0),
            "--seed": (self.seed, 0, 2**63 - 1),
            "--probes": (self.probes, 1, 100),
            "--filter-share": (self.filter_share, 0.0, 1.0),
        }
        faults = [
            f"{name}: found {value:g}, expected {low:g} to {high:g}"
            for name, (value, low, high) in ranges.items()
            if value is not None and not low <= value <= high
        ]
        if (self.rate_per_s is None) == (self.concurrency is None):
            faults.append("expected an open loop with --rate or a closed one with --closed and --concurrency, found both or none")
        if self.concurrency is not None and self.processes > self.concurrency:
            faults.append(f"--processes: found {self.processes}, expected at most --concurrency, which is {self.concurrency}")
        if self.slo is not None and self.rate_per_s is None:
            faults.append("--slo: found with --closed, expected an open loop: a closed one waits for the server and sets no rate")
        if self.rate_per_s is not None and self.rate_per_s * self.duration_s > _MOST_REQUESTS:
            faults.append(f"--rate times --duration-s: expected at most {_MOST_REQUESTS:,} requests; give less of either")
        if faults:
            raise ConfigError("invalid settings of the load:\n" + "\n".join(f"  {fault}" for fault in faults))

    @property
    def loop(self) -> str:
        """``open`` or ``closed``."""
        return "closed" if self.rate_per_s is None else "open"

    def probe_s(self, rate_per_s: float) -> float:
        """Return the seconds of a probe at a rate: long enough to measure the goal's quantile."""
        needed = answers_needed(self.slo.quantile) if self.slo else 1
        return max(self.duration_s, min(LONGEST_PROBE_S, _MORE_THAN_NEEDED * needed / rate_per_s))

    @property
    def lowest_rate(self) -> float:
        """Rate below which no probe gets enough answers for the goal's quantile."""
        return _MORE_THAN_NEEDED * answers_needed(self.slo.quantile) / max(LONGEST_PROBE_S, self.duration_s) if self.slo else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the settings as they stand in the results, without the connection; model and seed have fields of their own."""
        elsewhere = {"connection", "model", "seed", "slo", "probes", "filter_share"}
        kept = {name: value for name, value in vars(self).items() if name not in elsewhere}
        search = {"slo": str(self.slo), "probes": self.probes} if self.slo else {}
        return {"loop": self.loop} | kept | search | ({"filter_share": self.filter_share} if self.filter_share else {})
