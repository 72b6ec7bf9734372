"""Pages of the site that are made from code: settings, commands, and the documents of the repository's root."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import typer.main
from pydantic.fields import FieldInfo
from typer.core import TyperCommand, TyperGroup, TyperOption

from distilrec.config import Config, LossConfig
from distilrec.config.kinds import KindSection
from distilrec.config.section import Section

ROOT = Path(__file__).parents[1]
DOCUMENTS = {
    "OPERATIONS.md": "operations",
    "ARCHITECTURE.md": "architecture",
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changelog",
}
"""Documents of the root, and their pages."""

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?://|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def site_links(text: str, folder: Path) -> str:
    """Markdown whose links to files of the repository lead to pages of the site, or are names where the site has no such page.

    Args:
        text: Markdown of a page or document.
        folder: Folder of the repository that its links are relative to.
    """

    def link(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        path = (folder / target).resolve()
        if not path.exists():
            return match[0]  # for Sphinx to complain of
        name = path.relative_to(ROOT).as_posix()
        if name in DOCUMENTS:
            return f"[{label}](/generated/{DOCUMENTS[name]}.md{anchor})"
        if name.startswith("docs/") and path.suffix == ".md":
            return f"[{label}](/{name.removeprefix('docs/')}{anchor})"
        return f"`{name}`" if label.strip("`") == name or label == target else f"{label} (`{name}`)"

    return _LINK.sub(link, text)


def write_pages(folder: Path) -> None:
    """Write all generated pages into a folder, which is made."""
    folder.mkdir(exist_ok=True)
    pages = {page: site_links((ROOT / name).read_text(encoding="utf-8"), ROOT) for name, page in DOCUMENTS.items()}
    pages |= {"settings": settings_page(), "commands": commands_page()}
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # Sphinx then reads only what has changed
            path.write_text(text, encoding="utf-8")


def settings_page() -> str:
    """Each section of the settings with every field, its type, its default and what it means."""
    parts = ["# Settings\n\nEach field of a TOML file, by section. Fields without a default must be given."]
    parts += [_section_table(title, section) for title, section in _sections("", Config)]
    return "\n\n".join(parts) + "\n"


def _sections(title: str, section: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    """A section, then those in it and the kinds that each may be of, with their titles."""
    yield title, section
    for name, field in section.model_fields.items():
        inner = f"{title}.{name}" if title else name
        for part in _sections_in(field.annotation):
            mapping = get_origin(field.annotation) is dict
            inner_title = f"{inner}.NAME" if mapping else inner
            if issubclass(part, LossConfig):
                continue  # they follow below
            if issubclass(part, KindSection) and part._is_base():
                for kind, declared in part.kinds.items():
                    yield f'{inner_title}` with `kind = "{kind}"', declared
            else:
                yield from _sections(inner_title, part)
    if section is Config:
        for name, loss in LossConfig.declared.items():
            yield f"student.distillation.{name}", loss


def _sections_in(annotation: Any) -> list[type[Section]]:
    found = [part for argument in get_args(annotation) for part in _sections_in(argument)]
    return [annotation, *found] if inspect.isclass(annotation) and issubclass(annotation, Section) else found


def _section_table(title: str, section: type[Section]) -> str:
    heading = f"## `{title}`" if title else "## Top level"
    described = docstrings(section)
    rows = [
        f"| `{name}` | {_type(field)} | {_default(field)} | {_one_line(described.get(name, ''))} |"
        for name, field in section.model_fields.items()
        if name != "kind" and not _sections_in(field.annotation)
    ]
    text = _one_line(inspect.getdoc(section) or "")
    table = "\n".join(["| field | type | default | |", "|---|---|---|---|", *rows]) if rows else ""
    return "\n\n".join(part for part in (heading, text, table) if part)


def docstrings(section: type[Section]) -> dict[str, str]:
    """The text below each field of a class and of its bases, by the field's name."""
    found: dict[str, str] = {}
    for owner in reversed([base for base in section.__mro__ if issubclass(base, Section)]):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                    found[name] = inspect.cleandoc(said)
    return found


def _type(field: FieldInfo) -> str:
    text = re.sub(r"\b(?:typing|pathlib|collections\.abc)\.", "", str(field.annotation))
    text = re.sub(r"<class '(?:[\w]+\.)*(\w+)'>", r"\1", text)
    text = re.sub(r"Annotated\[(\w+), .*?\]\]?", r"\1", text)
    return "`" + re.sub(r"\bdistilrec\.[\w.]*\.", "", text).replace("|", "\\|").replace("`", "'") + "`"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)  # type: ignore[call-overload] # no factory here reads other fields
    return f"`{value!r}`".replace("|", "\\|")


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("``", "`").replace("|", "\\|")


def commands_page() -> str:
    """Each command with its description and options, as ``--help`` has them."""
    from distilrec.cli.app import app

    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    commands = [_command(name, command) for name, command in sorted(group.commands.items()) if isinstance(command, TyperCommand)]
    return "# All options\n\n" + "\n\n".join(commands) + "\n"


def _command(name: str, command: TyperCommand) -> str:
    rows = [
        f"| {' '.join(f'`{one}`' for one in (*option.opts, *option.secondary_opts))} | {_one_line(option.help or '')} |"
        for option in command.params
        if isinstance(option, TyperOption)
    ]
    text, _, example = inspect.cleandoc(command.help or "").partition("Example: ")
    parts = [f"## `distilrec {name}`", text.replace("``", "`").strip()]
    parts += [f"```bash\n{_one_line(example).replace(chr(92), '')}\n```"] if example else []
    parts += ["\n".join(["| option | |", "|---|---|", *rows])] if rows else []
    return "\n\n".join(parts)
