"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from distilrec.config import preset_names

DEFAULT_PRESET = "ml-100k"
DEFAULT_URL = "127.0.0.1:8001"
DEFAULT_REPOSITORY = Path("triton_repo")

Preset = Annotated[str, typer.Option(help=f"Preset ({', '.join(preset_names())}) or path of a TOML file.")]
Student = Annotated[
    str | None, typer.Option(help="Student to export: distilled, undistilled, or auto, which is the one that ranks better.")
]
Repository = Annotated[Path, typer.Option(help="Triton model repository.")]
Url = Annotated[str, typer.Option(help="Host and port of Triton's gRPC endpoint.")]
Cold = Annotated[bool, typer.Option("--cold", help="The run NAME-cold, which holds out all interactions of a tenth of the items.")]
Force = Annotated[bool, typer.Option("--force", help="Run again, from the start, what has not changed.")]
