"""Options that take several values after one name: ``--history A B C``."""

from collections.abc import Iterable, Sequence
from typing import Any

from typer.core import TyperCommand


def spread(arguments: Sequence[str], names: Iterable[str]) -> list[str]:
    """Rewrite arguments as Click reads them: ``--history A B`` becomes ``--history=A --history=B``.

    Values end at the next argument that begins with a dash; a value that begins with one is given as ``--history=-1``. Arguments
    after ``--`` stay as they are.

    Args:
        arguments: Arguments of the command.
        names: Names of the options that take several values, for example "--history".

    Raises:
        ValueError: an option without a value.
    """
    several, spread_out, rest = frozenset(names), list[str](), list(arguments)
    while rest:
        name = rest.pop(0)
        if name == "--":
            return [*spread_out, name, *rest]
        if name not in several:
            spread_out.append(name)
            continue
        if not rest or _is_option(rest[0]):
            raise ValueError(f"Option '{name}' requires a value; one that begins with a dash is given as {name}=-VALUE.")
        while rest and not _is_option(rest[0]):
            spread_out.append(f"{name}={rest.pop(0)}")
    return spread_out


def _is_option(argument: str) -> bool:
    return len(argument) > 1 and argument.startswith("-")


class SeveralValues(TyperCommand):
    """A command whose options that may be repeated also take several values at once."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Spread the values, then parse as usual."""
        names = [name for option in self.params if getattr(option, "multiple", False) for name in option.opts]
        try:
            args = spread(args, names)
        except ValueError as error:
            ctx.fail(str(error))
        return super().parse_args(ctx, args)
