"""`tocsin token`: creates API tokens. Standard output contains only the secret, which is printed once."""

from __future__ import annotations

from typing import Annotated

import typer

from tocsin.cli.session import UNKNOWN_USER, DataDir, open_database
from tocsin.core.errors import Rejected

app = typer.Typer(help="Manage API tokens.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Creates API tokens."""


@app.command()
def create(
    user: Annotated[str, typer.Option(metavar="NAME", help="The user as whom the token acts.")],
    name: Annotated[str, typer.Option(metavar="LABEL", help="The token's name.")],
    data_dir: DataDir = None,
) -> None:
    """Create an API token and print its secret.

    Standard output contains only the secret. It is never shown again.
    """
    with open_database(data_dir):
        from tocsin.access import tokens
        from tocsin.access.audit import COMMAND_LINE
        from tocsin.core.runtime import clock
        from tocsin.people.models import User

        owner = User.objects.filter(username__iexact=user).first()
        if owner is None:
            raise Rejected("not_found", UNKNOWN_USER(name=user), "user")
        secret = tokens.create(owner, name, actor=COMMAND_LINE, now=clock.now()).secret
    typer.echo(secret)
