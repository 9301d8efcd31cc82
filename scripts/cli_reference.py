"""Writes docs/reference/cli.md, every command with its arguments and options. Run by `make reference`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from tocsin.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "reference" / "cli.md"

INTRODUCTION = """\
# Command line

`tocsin COMMAND --help` shows the same. A command ends with 0; with 1 after an error, which it names in one line; with
2 if the command line itself is invalid.

Commands use the database of `--data-dir`, of `TOCSIN_DATA_DIR` or of `TOCSIN_DATABASE_URL`
([variables](variables.md)), beside a running Tocsin.

This page is written by `make reference`.
"""


def main() -> None:
    DOCUMENT.write_text(document(), encoding="utf-8")


def document() -> str:
    """The whole page: a section for each command."""
    return INTRODUCTION + "".join(_sections(typer.main.get_command(app), "tocsin"))


def _sections(command: Any, name: str) -> Iterator[str]:
    for word, child in sorted(getattr(command, "commands", {}).items()):
        whole = f"{name} {word}"
        if hasattr(child, "commands"):
            yield from _sections(child, whole)
        else:
            yield _section(child, whole)


def _section(command: Any, name: str) -> str:
    parameters = [one for one in command.params if "--help" not in one.opts]
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    usage = " ".join(
        [name, *(_argument(one) for one in arguments), "[OPTIONS]" if len(arguments) < len(parameters) else ""]
    )
    rows = "".join(f"| {_names(one)} | {_cell(one.help)} | {_default(one)} |\n" for one in parameters)
    table = f"\n| | | default |\n|---|---|---|\n{rows}" if rows else ""
    return f"\n## {name}\n\n```sh\n{usage.strip()}\n```\n\n{_text(command.help)}\n{table}"


def _text(help_text: str | None) -> str:
    """The paragraphs of a docstring, each on one line."""
    paragraphs = (help_text or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _argument(parameter: Any) -> str:
    word = (parameter.metavar or parameter.name).upper().strip("[]")
    return word if parameter.required else f"[{word}]"


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_argument(parameter)}`"
    value = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
    return ", ".join(f"`{option}{value}`" for option in (*parameter.opts, *parameter.secondary_opts))


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default in (None, False, (), "") or not getattr(parameter, "show_default", True):
        return ""
    return f"`{str(parameter.default).lower() if isinstance(parameter.default, bool) else parameter.default}`"


if __name__ == "__main__":
    main()
