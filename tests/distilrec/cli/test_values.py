"""Several values after one option."""

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from distilrec.cli.values import SeveralValues, spread

NAMES = ("--history", "--exclude")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--history A", "--history=A"),
        ("--history A B --k 5 --exclude C D", "--history=A --history=B --k 5 --exclude=C --exclude=D"),
        ("--history A --history B", "--history=A --history=B"),
        ("--history=-1 --history=B --json", "--history=-1 --history=B --json"),
        ("--history A - B", "--history=A --history=- --history=B"),
        ("--k 5 -- --history A", "--k 5 -- --history A"),
        ("--history A -- B", "--history=A -- B"),
        ("--k 5", "--k 5"),
    ],
)
def test_values_are_spread(arguments, expected):
    assert spread(arguments.split(" "), NAMES) == expected.split(" ")


@pytest.mark.parametrize("arguments", [["--history"], ["--history", "--k", "5"], ["--exclude", "--"]])
def test_an_option_without_a_value_is_an_error(arguments):
    with pytest.raises(ValueError, match="requires a value"):
        spread(arguments, NAMES)


@given(st.lists(st.text().filter(lambda text: not text.startswith("-")), min_size=1), st.lists(st.text()))
def test_values_reach_the_command_as_they_are(history, exclude):
    app, found = typer.Typer(rich_markup_mode=None), {}

    @app.command(cls=SeveralValues)
    def ask(history: list[str] = [], exclude: list[str] = [], k: int = 1):  # noqa: B006 - typer's way
        found.update(history=history, exclude=exclude, k=k)

    arguments = ["--history", *history, *(f"--exclude={text}" for text in exclude), "--k", "3"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert found == {"history": history, "exclude": exclude, "k": 3}


def test_an_option_without_a_value_ends_with_status_2():
    app = typer.Typer(rich_markup_mode=None)

    @app.command(cls=SeveralValues)
    def ask(history: list[str] = [], k: int = 1):  # noqa: ARG001, B006
        raise AssertionError

    result = CliRunner().invoke(app, ["--history", "--k", "3"])
    assert result.exit_code == 2
    assert "Option '--history' requires a value" in result.output
