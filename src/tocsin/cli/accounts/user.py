"""`tocsin user`: creates users and resets second factors.

A shell on the machine is sufficient authorization, so the contact details of users created here count as verified.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tocsin.access.roles import Role
from tocsin.cli.session import DataDir, open_database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType, Term

_NO_PASSWORD = ReasonType("user.no_password_on_stdin", "--password-stdin: there is no password on standard input.")

app = typer.Typer(help="Manage users and their second factors.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Creates users and resets second factors."""


@app.command("create")
def create(
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
    spec = {"username": username, "email": email, "role": role.value, "name": full_name or None}
    with open_database(data_dir):
        from tocsin.access.audit import COMMAND_LINE
        from tocsin.core.runtime import clock
        from tocsin.people.changes import users

        users.save_user(
            {**spec, "time_zone": time_zone or None}, actor=COMMAND_LINE, now=clock.now(), password=password
        )
    typer.echo(f"{username} is {'an' if role in (Role.ADMIN, Role.OBSERVER) else 'a'} {role.value} now.", err=True)


@app.command("reset-second-factor")
def reset_second_factor(
    username: Annotated[str, typer.Argument(metavar="NAME", help="The username.")],
    data_dir: DataDir = None,
) -> None:
    """Remove a user's second factors.

    For a user who lost them. Removes the authenticator app, passkeys and recovery codes.
    """
    with open_database(data_dir):
        from tocsin.access.audit import COMMAND_LINE
        from tocsin.core.runtime import clock
        from tocsin.notify.enqueue import mfa_reset_notice
        from tocsin.people.models import User
        from tocsin.resources.lookup import NO_SUCH_OBJECT

        user = User.objects.filter(username__iexact=username).first()
        if user is None:
            raise Rejected("not_found", NO_SUCH_OBJECT(label=Term("user"), name=username))
        removed = mfa_reset_notice.remove_second_factors(user, actor=COMMAND_LINE, now=clock.now())
    typer.echo(
        f"Two-factor authentication reset for {user.username}."
        if removed
        else f"{user.username} has no second factor.",
        err=True,
    )


def _password() -> str:
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise Rejected("missing", _NO_PASSWORD())
    return password
