"""`tocsin token`: creates, lists and revokes API tokens. A secret is printed once, alone on standard output."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from tocsin.access.token_limits import DEFAULT_LIFETIME, MAX_LIFETIME, TokenScope
from tocsin.cli.session import DataDir, open_database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Term

if TYPE_CHECKING:
    from tocsin.people.models import User

app = typer.Typer(help="Manage API tokens.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Creates, lists and revokes API tokens."""


@app.command()
def create(
    user: Annotated[str, typer.Option(metavar="NAME", help="The user as whom the token acts.")],
    name: Annotated[str, typer.Option(metavar="LABEL", help="The token's name.")],
    scope: Annotated[TokenScope, typer.Option(help="What it may do at most, within the role.")] = TokenScope.READ,
    group: Annotated[
        list[str] | None, typer.Option(metavar="GROUP", help="Limit it to this group. Repeatable.", show_default=False)
    ] = None,
    client: Annotated[
        list[str] | None,
        typer.Option(metavar="CLIENT", help="Limit it to this client. Repeatable.", show_default=False),
    ] = None,
    days: Annotated[
        int, typer.Option(metavar="N", min=1, max=MAX_LIFETIME.days, help="The days until it expires.")
    ] = DEFAULT_LIFETIME.days,
    data_dir: DataDir = None,
) -> None:
    """Create an API token and print its secret.

    Standard output contains only the secret. It is never shown again.
    """
    with open_database(data_dir):
        from tocsin.access.audit import COMMAND_LINE
        from tocsin.core.runtime import clock
        from tocsin.people.changes import api_tokens

        now = clock.now()
        secret = api_tokens.create_token(
            _find_owner(user),
            name,
            scope=scope,
            groups=group or (),
            clients=client or (),
            expires_at=now + timedelta(days=days),
            actor=COMMAND_LINE,
            now=now,
        ).secret
    typer.echo(secret)


@app.command("list")
def list_tokens(
    user: Annotated[
        str, typer.Option(metavar="NAME", help="Only this user's or service account's.", show_default=False)
    ] = "",
    data_dir: DataDir = None,
) -> None:
    """List the tokens that are valid: ID, owner, name, scope, expiry and last use."""
    with open_database(data_dir):
        from tocsin.access.models import ApiToken
        from tocsin.core.runtime import clock

        rows = ApiToken.objects.select_related("user").filter(revoked_at=None, expires_at__gt=clock.now())
        if user:
            rows = rows.filter(user=_find_owner(user))
        for row in rows.order_by("user__username", "name"):
            used = f"{row.last_used_at:%Y-%m-%d} from {row.last_used_from or '-'}" if row.last_used_at else "never"
            fields = (str(row.pk), row.user.username, row.name, row.scope, f"{row.expires_at:%Y-%m-%d}", used)
            typer.echo("\t".join(fields))


@app.command()
def revoke(
    token_id: Annotated[int, typer.Argument(metavar="ID", help="The token's ID, as `tocsin token list` shows it.")],
    data_dir: DataDir = None,
) -> None:
    """Revoke an API token, at once and for good."""
    with open_database(data_dir):
        from tocsin.access import tokens
        from tocsin.access.audit import COMMAND_LINE
        from tocsin.access.models import ApiToken
        from tocsin.core.runtime import clock
        from tocsin.resources import lookup

        token = lookup.find(ApiToken.objects.select_related("user"), str(token_id), label="token")
        tokens.revoke(token, actor=COMMAND_LINE, now=clock.now())
    typer.echo(f"{token.name} of {token.user.username} is revoked.", err=True)


def _find_owner(username: str) -> User:
    """Return the user or service account. Raises Rejected("not_found")."""
    from tocsin.people.models import User
    from tocsin.resources.lookup import NO_SUCH_OBJECT

    owner = User.accounts.filter(username__iexact=username).first()
    if owner is None:
        raise Rejected("not_found", NO_SUCH_OBJECT(label=Term("user"), name=username), "user")
    return owner
