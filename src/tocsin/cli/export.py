"""`tocsin export`: prints the configuration as the YAML that `tocsin apply` reads."""

from __future__ import annotations

from typing import Annotated

import typer

from tocsin.cli.session import DataDir, open_database


def export(
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets", help="Prints tokens and passwords too. Keep the output safe.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Prints the configuration as YAML; applying it again changes nothing."""
    with open_database(data_dir):
        from tocsin.configure import export as exported

        text = exported.write(exported.everything(with_secrets=with_secrets))
    typer.echo(text, nl=False)
