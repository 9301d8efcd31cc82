"""Commands about who may do what: users, API tokens, provisioning."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from tocsin.access.roles import DEFAULT_LIFETIME, MAX_LIFETIME, Role, TokenScope
from tocsin.cli.session import DataDir, open_database
from tocsin.core.config import environment
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Term, sentence
from tocsin.core.runtime import clock

if TYPE_CHECKING:
    from django.db.models import Model, QuerySet

    from tocsin.identity.models import IdentityProvider
    from tocsin.people.models import User

# ---------- scim
# `tocsin scim`: the token with which an identity provider provisions users.


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
        from tocsin.identity.scim import documents

        secret = documents.rotate_token(_find_provider(provider), actor=COMMAND_LINE, now=clock.now())
    typer.echo(secret)


@app.command("revoke-token")
def revoke_token(provider: _Provider, data_dir: DataDir = None) -> None:
    """End provisioning by the provider. Users, and what they were given, stay."""
    with open_database(data_dir):
        from tocsin.access.audit import COMMAND_LINE
        from tocsin.identity.scim import documents

        was_on = documents.turn_off(_find_provider(provider), actor=COMMAND_LINE, now=clock.now())
    typer.echo(f"{provider} no longer provisions users." if was_on else f"{provider} has no SCIM token.", err=True)


def _find_provider(name: str) -> IdentityProvider:
    from tocsin.identity.models import IdentityProvider

    return _find(IdentityProvider.objects.filter(name__iexact=name), "identity provider", name)


def _find[M: Model](rows: QuerySet[M], label: str, name: str) -> M:
    """Return the only row. Raises Rejected("not_found")."""
    from tocsin.resources.resource import NO_SUCH_OBJECT

    found = rows.first()
    if found is None:
        raise Rejected("not_found", NO_SUCH_OBJECT(label=Term(label), name=name))
    return found


# ---------- token
# `tocsin token`: creates, lists and revokes API tokens. A secret is printed once, alone on standard output.


token_app = typer.Typer(help="Manage API tokens.", no_args_is_help=True, rich_markup_mode=None)


@token_app.callback()
def _group_token() -> None:
    """Creates, lists and revokes API tokens."""


@token_app.command()
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


@token_app.command("list")
def list_tokens(
    user: Annotated[
        str, typer.Option(metavar="NAME", help="Only this user's or service account's.", show_default=False)
    ] = "",
    data_dir: DataDir = None,
) -> None:
    """List the tokens that are valid: ID, owner, name, scope, expiry and last use."""
    with open_database(data_dir):
        from tocsin.access.models import ApiToken

        rows = ApiToken.objects.select_related("user").filter(revoked_at=None, expires_at__gt=clock.now())
        if user:
            rows = rows.filter(user=_find_owner(user))
        for row in rows.order_by("user__username", "name"):
            used = f"{row.last_used_at:%Y-%m-%d} from {row.last_used_from or '-'}" if row.last_used_at else "never"
            fields = (str(row.pk), row.user.username, row.name, row.scope, f"{row.expires_at:%Y-%m-%d}", used)
            typer.echo("\t".join(fields))


@token_app.command()
def revoke(
    token_id: Annotated[int, typer.Argument(metavar="ID", help="The token's ID, as `tocsin token list` shows it.")],
    data_dir: DataDir = None,
) -> None:
    """Revoke an API token, at once and for good."""
    with open_database(data_dir):
        from tocsin.access import tokens
        from tocsin.access.audit import COMMAND_LINE
        from tocsin.access.models import ApiToken
        from tocsin.resources import resource

        token = resource.find(ApiToken.objects.select_related("user"), str(token_id), label="token")
        tokens.revoke(token, actor=COMMAND_LINE, now=clock.now())
    typer.echo(f"{token.name} of {token.user.username} is revoked.", err=True)


def _find_owner(username: str) -> User:
    """Return the user or service account. Raises Rejected("not_found")."""
    from tocsin.people.models import User

    return _find(User.accounts.filter(username__iexact=username), "user", username)


# ---------- user
# `tocsin user`: creates users and resets second factors.
#
# A shell on the machine is sufficient authorization, so the contact details of users created here count as verified.


user_app = typer.Typer(help="Manage users and their second factors.", no_args_is_help=True, rich_markup_mode=None)


@user_app.callback()
def _group_user() -> None:
    """Creates users and resets second factors."""


@user_app.command("create")
def create_user(
    username: Annotated[str, typer.Argument(metavar="NAME", help="The username.")],
    email: Annotated[str, typer.Option(metavar="E", help="The email address.")],
    role: Annotated[Role, typer.Option(help="The role.")] = Role.RESPONDER,
    full_name: Annotated[str, typer.Option("--full-name", help="The display name.")] = "",
    time_zone: Annotated[str, typer.Option("--time-zone", help="Such as Europe/Zurich.", show_default=False)] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Create a user.

    Without a password, the user sets one through "Forgot your password?" on the sign-in page.
    """
    password = _password() if password_stdin else None
    spec = {
        "username": username, "email": email, "role": role.value, "name": full_name or None,
        "time_zone": time_zone or None,
    }  # fmt: skip
    with open_database(data_dir):
        from tocsin.access.audit import COMMAND_LINE
        from tocsin.people.changes import users

        users.save_user(spec, actor=COMMAND_LINE, now=clock.now(), password=password)
    typer.echo(f"{username} is {'an' if role in (Role.ADMIN, Role.OBSERVER) else 'a'} {role.value} now.", err=True)


@user_app.command("reset-second-factor")
def reset_second_factor(
    username: Annotated[str, typer.Argument(metavar="NAME", help="The username.")],
    data_dir: DataDir = None,
) -> None:
    """Remove a user's second factors.

    For a user who lost them. Removes the authenticator app, passkeys and recovery codes.
    """
    with open_database(data_dir):
        from tocsin.access.audit import COMMAND_LINE
        from tocsin.notify import notices
        from tocsin.people.models import User

        user = _find(User.objects.filter(username__iexact=username), "user", username)
        removed = notices.remove_second_factors(user, actor=COMMAND_LINE, now=clock.now())
    done = f"Two-factor authentication reset for {user.username}."
    typer.echo(done if removed else f"{user.username} has no second factor.", err=True)


def _password() -> str:
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise Rejected("missing", sentence("--password-stdin: there is no password on standard input."))
    return password


# ---------- mcp
# `tocsin mcp`: lets an assistant that only starts programs use the MCP server of a Tocsin by HTTP. Needs no database.


_MCP_META = "io.modelcontextprotocol/protocolVersion"
_CALL_TIMEOUT_SECONDS = 120


def mcp(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="The address of Tocsin, such as https://tocsin.example.org.")
    ],
) -> None:
    """Connect an assistant by MCP over standard input and output.

    Passes each message to /mcp at the address, with the API token in $TOCSIN_API_TOKEN. No database is needed.
    """
    import httpx

    from tocsin.core.net.egress import tls_context

    # Not an argument, which every process list shows.
    token = environment.current().api_token
    if not token:
        raise Rejected("missing", sentence("Set {variable} to an API token.", variable="TOCSIN_API_TOKEN"))
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise Rejected("invalid", sentence('"{url}" is not an address such as https://tocsin.example.org.', url=url))
    address = f"{url.rstrip('/').removesuffix('/mcp')}/mcp"
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}
    revision = ""
    with httpx.Client(headers=headers, timeout=_CALL_TIMEOUT_SECONDS, verify=tls_context()) as client:
        for line in sys.stdin:
            if not line.strip():
                continue
            message = _read_message(line)
            try:
                response = client.post(address, content=line.encode(), headers=_mcp_headers(message, revision))
                answer = response.json() if response.content else None
                problem = "" if isinstance(answer, dict) or response.is_success else f"HTTP {response.status_code}"
            except (httpx.HTTPError, ValueError) as error:
                answer, problem = None, str(error) or type(error).__name__
            if problem:
                answer = {"error": {"code": -32603, "message": f"{address}: {problem}"}}
            if answer is None or (problem and "id" not in message):
                continue
            answer = {"jsonrpc": "2.0", **answer, "id": message.get("id")}
            if message.get("method") == "initialize":
                revision = answer.get("result", {}).get("protocolVersion", "")
            typer.echo(json.dumps(answer, ensure_ascii=False))


def _read_message(line: str) -> dict[str, Any]:
    """Return a message; nothing for what is none, which the server refuses."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _mcp_headers(message: Mapping[str, Any], revision: str) -> dict[str, str]:
    """Return the headers that repeat a message. `revision` is that of `initialize`."""
    params = message.get("params") or {}
    stated = (params.get("_meta") or {}).get(_MCP_META) or revision
    values = {
        "MCP-Protocol-Version": stated,
        "Mcp-Method": message.get("method"),
        "Mcp-Name": params.get("name") if message.get("method") == "tools/call" else None,
    }
    headers = {"Content-Type": "application/json"}
    for name, value in values.items():
        if isinstance(value, str) and value:
            is_plain = value.isascii() and value.isprintable() and value == value.strip()
            encoded = base64.b64encode(value.encode()).decode()
            headers[name] = value if is_plain and not value.startswith("=?base64?") else f"=?base64?{encoded}?="
    return headers
