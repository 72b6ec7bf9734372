"""The command that puts load on a server; it is part of the one command line (``distilrec/cli/app.py``)."""

import json
from pathlib import Path
from typing import Annotated

import typer

from distilrec.cli.connection import Metadata, TlsCa, TlsCert, TlsKey, UseTls, given_connection, tls_of
from distilrec.cli.options import DEFAULT_URL, Url
from distilrec.cli.values import SeveralValues
from distilrec.core.errors import ConfigError
from distilrec.core.specs import MODEL_NAME

app = typer.Typer()

_DEFAULT_RATE = 100.0
_DEFAULT_CONCURRENCY = 8
_INTERRUPTED = 130


@app.command(cls=SeveralValues)
def load(  # noqa: PLR0917 - typer's parameters are options, not positions
    rate: Annotated[float | None, typer.Option(help=f"Requests a second, open loop; {_DEFAULT_RATE:g} unless told.")] = None,
    closed: Annotated[bool, typer.Option("--closed", help="Closed loop: the next request when one is answered.")] = False,
    concurrency: Annotated[int | None, typer.Option(help=f"In flight with --closed; {_DEFAULT_CONCURRENCY} unless told.")] = None,
    slo: Annotated[str | None, typer.Option(help="Search the highest rate that holds it, such as 'p99<10ms'.")] = None,
    duration_s: Annotated[float, typer.Option(help="Seconds to send; of each probe with --slo.")] = 5.0,
    model: Annotated[str, typer.Option(help="Model: student, or identity or teacher of export --with-benchmarks.")] = MODEL_NAME,
    url: Url = DEFAULT_URL,
    processes: Annotated[int | None, typer.Option(help="Client processes; by default half of the cores, 2 to 8.")] = None,
    timeout_s: Annotated[float, typer.Option(help="Seconds each request may take.")] = 5.0,
    zipf: Annotated[float, typer.Option(help="Exponent of the items' popularity in the histories; 0 is uniform.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of arrivals and histories.")] = 0,
    probes: Annotated[int, typer.Option(help="Most probes of a search.")] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON into this file.")] = None,
    tls: UseTls = False,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    metadata: Metadata = None,
) -> None:
    """Put load on a running server, and say how it answers.

    Requests arrive as those of independent users do (a Poisson process) and are sent when they are due, whatever the server does
    meanwhile; latency is from the time a request was due. Ctrl-C ends with what was measured until then, status 130.

    Example: distilrec load --rate 500 --duration-s 10

    Example: distilrec load --slo 'p99<10ms' --output load.json

    Example: distilrec load --url recs.example.com:443 --tls --closed
    """
    from distilrec.core.files import write_text
    from distilrec.load.report import describe
    from distilrec.load.run import measure
    from distilrec.load.settings import LoadSettings, default_processes
    from distilrec.load.slo import parse_slo

    in_flight = _in_flight(rate, closed, concurrency)
    if output is not None and not output.absolute().parent.is_dir():
        raise ConfigError(f"--output: found no folder {output.parent}, expected one to write {output.name} into; make it first")
    result = measure(
        LoadSettings(
            connection=given_connection(url, tls_of(tls_ca, tls_cert, tls_key, wanted=tls), metadata),
            model=model,
            rate_per_s=None if closed else (_DEFAULT_RATE if rate is None else rate),
            concurrency=in_flight,
            duration_s=duration_s,
            processes=processes if processes is not None else min(default_processes(), in_flight or default_processes()),
            timeout_s=timeout_s,
            zipf_exponent=zipf,
            seed=seed,
            slo=None if slo is None else parse_slo(slo),
            probes=probes,
        )
    )
    text = json.dumps(result, indent=1, ensure_ascii=False)
    if output is not None:
        write_text(output, text + "\n")
    print(text if as_json else describe(result))
    raise typer.Exit(_INTERRUPTED if result["interrupted"] else 0)


def _in_flight(rate: float | None, closed: bool, concurrency: int | None) -> int | None:
    """Requests in flight of a closed loop; None in an open one.

    Raises:
        ConfigError: options of the one with the other.
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
