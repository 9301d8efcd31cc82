"""`tocsin catalogue`: lists the integration types of this version, and scaffolds a new one.

The types are part of the package, not of the data directory; `--data-dir` is accepted for consistency.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli.session import DataDir

app = typer.Typer(help="Manage inbound integration types.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Lists and creates types of inbound integrations."""


@app.command("list")
def list_kinds(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of docs/reference/catalogue.md.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """List the integration types.

    Prints the name, title, category and purpose of each.
    """
    from tocsin.catalogue.kinds import load_kinds, table

    if markdown:
        typer.echo(table())
        return
    kinds = load_kinds().values()
    width = max(len(kind.name) for kind in kinds)
    for kind in kinds:
        typer.echo(f"{kind.name:{width}}  {kind.title}: {kind.description}")


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The folder's name, such as uptime_kuma.")],
    title: Annotated[str | None, typer.Option(help="The tool's name. Default: derived from NAME.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="The folder of integration types. Default: the built-in one.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Create an integration type.

    Creates a folder with a manifest, a guide and samples that works unchanged.
    """
    from tocsin.catalogue import scaffold

    display_title = title or name.replace("_", " ").title()
    for path in scaffold.create_kind(name, display_title, folder or scaffold.KINDS):
        typer.echo(path)
    typer.echo(
        "\nReplace the samples by the tool's documented payloads, then the mapping, the rules and the guide; then:\n"
        f"  pytest tests/unit/catalogue tests/store/test_catalogue_samples.py -k {name}\n"
        "  tocsin catalogue list --markdown   # into the table of docs/reference/catalogue.md",
        err=True,
    )
