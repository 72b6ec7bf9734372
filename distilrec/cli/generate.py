"""The command ``generate``, a part of the command line in ``distilrec/cli/app.py``."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def generate(
    *,
    out: Annotated[Path, typer.Option(help="Folder to write; one of an earlier `generate` is replaced as a whole.")],
    users: Annotated[int, typer.Option(min=1, help="Number of users.")] = 100_000,
    items: Annotated[int, typer.Option(min=100, help="Number of items.")] = 10_000,
    events: Annotated[int, typer.Option(min=2, help="About how many interactions.")] = 1_000_000,
    days: Annotated[int, typer.Option(min=1, help="Length of the log.")] = 90,
    drift: Annotated[float, typer.Option(min=0, max=1, help="Share of a category over which popularity moves meanwhile.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
) -> None:
    """Write interactions and items of an invented shop, for benchmarks and trials at any size.

    The data is synthetic: it shows what things cost and whether they work, not how well a model ranks for real users.

    Name the folder of interactions and the file of items in section [data] of your settings.

    Example: distilrec generate --out shop --users 1000000 --items 1000000 --events 20000000
    """
    from distilrec.data.synthetic import INTERACTIONS, ITEMS, Shop, write_shop

    rows = write_shop(Shop(users, items, events, days, drift, seed), out)
    print(f"{rows:,} synthetic interactions: {out / INTERACTIONS}; {items:,} items: {out / ITEMS}")
