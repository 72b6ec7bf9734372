"""The command ``load``, which puts load on a server."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distilrec.cli.connection import Metadata, TlsCa, TlsCert, TlsKey, UseTls, given_connection, tls_of
from distilrec.cli.options import DEFAULT_URL, Url
from distilrec.cli.values import SeveralValues
from distilrec.core.errors import ConfigError
from distilrec.core.specs import MODEL_NAME

if TYPE_CHECKING:
    from clients.connection import Connection
    from distilrec.loadtest.settings import LoadSettings

app = typer.Typer()

_DEFAULT_RATE = 100.0
_DEFAULT_CONCURRENCY = 8
_INTERRUPTED = 130  # the shell's status after Ctrl-C


@app.command(cls=SeveralValues)
def load(  # noqa: PLR0917 - typer's parameters are options, not positions
    rate: Annotated[float | None, typer.Option(help=f"Requests per second, open loop; by default {_DEFAULT_RATE:g}.")] = None,
    closed: Annotated[bool, typer.Option("--closed", help="Closed loop: the next request when one is answered.")] = False,
    concurrency: Annotated[int | None, typer.Option(help=f"In flight with --closed; by default {_DEFAULT_CONCURRENCY}.")] = None,
    slo: Annotated[str | None, typer.Option(help="Search for the highest rate that holds this goal, such as 'p99<10ms'.")] = None,
    duration_s: Annotated[float, typer.Option(help="Seconds in which requests are sent; with --slo, of each probe.")] = 5.0,
    model: Annotated[str, typer.Option(help="Model: student, or identity or teacher of export --with-benchmarks.")] = MODEL_NAME,
    url: Url = DEFAULT_URL,
    processes: Annotated[int | None, typer.Option(help="Client processes; by default half of the cores, 2 to 8.")] = None,
    timeout_s: Annotated[float, typer.Option(help="Seconds each request may take.")] = 5.0,
    zipf: Annotated[float, typer.Option(help="Exponent of the items' popularity in the histories; 0 is uniform.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Random seed of arrivals and histories.")] = 0,
    probes: Annotated[int, typer.Option(help="Largest number of probes in a search.")] = 12,
    filter_share: Annotated[float, typer.Option(help="Share of requests that filter by a random attribute value.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON into this file.")] = None,
    tls: UseTls = False,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    metadata: Metadata = None,
) -> None:
    """Put load on a running server, and report how it answers.

    Requests arrive like those of independent users (a Poisson process). Each is sent when it is due, whatever the server does
    meanwhile, and its latency counts from that time. Ctrl-C ends the load with the measurements until then, status 130.

    Example: distilrec load --rate 500 --duration-s 10

    Example: distilrec load --slo 'p99<10ms' --output load.json

    Example: distilrec load --url recs.example.com:443 --tls --closed
    """
    settings = _settings(
        given_connection(url, tls_of(tls_ca, tls_cert, tls_key, wanted=tls), metadata), rate, concurrency, processes, slo,
        closed=closed, model=model, duration_s=duration_s, timeout_s=timeout_s, zipf_exponent=zipf, seed=seed, probes=probes,
        filter_share=filter_share,
    )  # fmt: skip
    raise typer.Exit(_measure(settings, output, as_json=as_json))


def _settings(
    connection: "Connection",
    rate: float | None,
    concurrency: int | None,
    processes: int | None,
    slo: str | None,
    *,
    closed: bool,
    **others: Any,
) -> "LoadSettings":
    """Return the settings that the options mean, with their defaults.

    Raises:
        ConfigError: invalid options.
    """
    from distilrec.loadtest.settings import LoadSettings, default_processes  # deferred: the command line starts without gRPC
    from distilrec.loadtest.slo import parse_slo

    in_flight = _in_flight(rate, closed, concurrency)
    return LoadSettings(
        connection=connection,
        rate_per_s=None if closed else (_DEFAULT_RATE if rate is None else rate),
        concurrency=in_flight,
        processes=processes if processes is not None else min(default_processes(), in_flight or default_processes()),
        slo=None if slo is None else parse_slo(slo),
        **others,
    )


def _measure(settings: "LoadSettings", output: Path | None, *, as_json: bool) -> int:
    """Put the load on the server, then write and print the results; returns the exit status."""
    from distilrec.core.files import write_text
    from distilrec.loadtest.report import describe
    from distilrec.loadtest.run import measure

    if output is not None and not output.absolute().parent.is_dir():
        raise ConfigError(f"--output: found no folder {output.parent}, expected one to write {output.name} into; make it first")
    result = measure(settings)
    text = json.dumps(result, indent=1, ensure_ascii=False)
    if output is not None:
        write_text(output, text + "\n")
    print(text if as_json else describe(result))
    return _INTERRUPTED if result["interrupted"] else 0


def _in_flight(rate: float | None, closed: bool, concurrency: int | None) -> int | None:
    """Return the number of requests in flight of a closed loop; None for an open one.

    Raises:
        ConfigError: options of an open and a closed loop together.
    """
    if closed and rate is not None:
        raise ConfigError(
            "found --rate with --closed, expected one of them: a closed loop goes as fast as the server; leave one out"
        )
    if not closed and concurrency is not None:
        raise ConfigError(
            "found --concurrency without --closed, expected both: an open loop does not wait for answers; add --closed"
        )
    if not closed:
        return None
    return _DEFAULT_CONCURRENCY if concurrency is None else concurrency
