"""Writes docs/reference/variables.md, every environment variable. Run by `make reference`."""

from pathlib import Path

from tocsin.core.config.environment import VARIABLES

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "reference" / "variables.md"

INTRODUCTION = """\
# Environment variables

Only what a process needs before it can read the database is a variable. Everything else is configured in the web
interface, over the [API](api.md) or as [YAML](yaml.md). An unknown variable that begins with `TOCSIN_` stops the start,
so that a misspelling is noticed.

A variable with a secret can be given as a file instead: `TOCSIN_SMTP_URL_FILE=/etc/tocsin/smtp-url`.

This page is written by `make reference`.

| variable | meaning | default | as a file |
|---|---|---|---|
"""


def main() -> None:
    DOCUMENT.write_text(document(), encoding="utf-8")


def document() -> str:
    """The whole page: one table."""
    return INTRODUCTION + "".join(
        f"| `{variable.name}` | {variable.meaning} | {variable.default} | "
        f"{f'`{variable.name}_FILE`' if variable.is_secret else ''} |\n"
        for variable in VARIABLES
    )


if __name__ == "__main__":
    main()
