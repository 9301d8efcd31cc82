"""`tocsin scim`: the token with which an identity provider provisions users."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tocsin.cli.session import DataDir, open_database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Term

app = typer.Typer(help="Manage provisioning by SCIM.", no_args_is_help=True, rich_markup_mode=None)

_Provider = Annotated[str, typer.Argument(metavar="PROVIDER", help="The name of the identity provider.")]


@app.callback()
def _group() -> None:
    """Creates, rotates and revokes the SCIM tokens of identity providers."""


@app.command("create-token")
def create_token(provider: _Provider, data_dir: DataDir = None) -> None:
    """Create the provider's SCIM token and print it.

    Replaces an earlier token at once. Standard output contains only the token, which is never shown again. The
    provider sends it to /scim/v2 below Tocsin's address.
    """
    with open_database(data_dir):
        from tocsin.access.audit import COMMAND_LINE
        from tocsin.core.runtime import clock
        from tocsin.identity.scim import tokens

        secret = tokens.rotate(_find(provider), actor=COMMAND_LINE, now=clock.now())
    typer.echo(secret)


@app.command("revoke-token")
def revoke_token(provider: _Provider, data_dir: DataDir = None) -> None:
    """End provisioning by the provider. Users, and what they were given, stay."""
    with open_database(data_dir):
        from tocsin.access.audit import COMMAND_LINE
        from tocsin.core.runtime import clock
        from tocsin.identity.scim import tokens

        was_on = tokens.turn_off(_find(provider), actor=COMMAND_LINE, now=clock.now())
    typer.echo(f"{provider} no longer provisions users." if was_on else f"{provider} has no SCIM token.", err=True)


def _find(name: str) -> Any:
    from tocsin.identity.models import IdentityProvider
    from tocsin.resources.lookup import NO_SUCH_OBJECT

    found = IdentityProvider.objects.filter(name__iexact=name).first()
    if found is None:
        raise Rejected("not_found", NO_SUCH_OBJECT(label=Term("identity provider"), name=name))
    return found
