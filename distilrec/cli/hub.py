"""The commands ``push`` and ``pull``, a part of the command line in ``distilrec/cli/app.py``."""

from pathlib import Path
from typing import Annotated

import typer

from distilrec.cli.options import DEFAULT_PRESET, Preset
from distilrec.config import load_config

app = typer.Typer()

Model = Annotated[str, typer.Argument(metavar="USER/NAME", help="Repository on the Hugging Face hub.")]


@app.command()
def push(
    repository: Model,
    preset: Preset = DEFAULT_PRESET,
    public: Annotated[bool, typer.Option("--public", help="A new repository can be read by everybody.")] = False,
) -> None:
    """Upload the exported student and its model card to the Hugging Face hub.

    The token is that of `hf auth login`, or HF_TOKEN. What is uploaded is what a server needs: graphs in all precisions, the
    vocabulary, the report, and some histories of items, without users, that answers are tested with.

    Example: distilrec push me/shop --preset shop.toml
    """
    from distilrec.pipeline.hub import push as upload

    print(f"pushed: {upload(load_config(preset), repository, public=public)}")


@app.command()
def pull(
    repository: Model,
    out: Annotated[Path, typer.Option(help="Folder of the artefact; a former artefact in it is replaced.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit. [default: the newest]")] = None,
) -> None:
    """Download an exported student from the Hugging Face hub, and check that it is whole.

    Put it into a running server with `distilrec promote`.

    Example: distilrec pull me/shop --out artefact
    """
    from distilrec.pipeline.hub import pull as download

    folder = download(repository, out, revision=revision)
    print(f"pulled: {folder}\npromote it: distilrec promote {folder}")
