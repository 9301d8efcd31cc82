"""The `tocsin` command: registers the subcommands, each in its own module, and prints errors in one line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from functools import cache
from types import FrameType
from typing import Annotated

import psycopg
import typer
from typer.main import get_command

import tocsin
from tocsin.cli import accounts, backup, configuration, serve
from tocsin.cli.demo import command as demo
from tocsin.core.config.environment import ConfigError, UnreadableFileError
from tocsin.core.db import database
from tocsin.core.errors import RejectedAll, TocsinError
from tocsin.operate.service import EXIT_CONFIG

app = typer.Typer(
    name="tocsin",
    help="Tocsin: alert management and on-call paging.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


app.command()(serve.serve)
app.command()(demo.demo)
app.command()(configuration.apply)
app.command()(configuration.export)
app.command()(configuration.simulate)
app.command()(backup.doctor)
app.command()(serve.probe)
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(accounts.mcp)
app.add_typer(configuration.imports_app, name="import")
app.add_typer(serve.app, name="service")
app.add_typer(accounts.user_app, name="user")
app.add_typer(accounts.token_app, name="token")
app.add_typer(accounts.app, name="scim")
app.add_typer(backup.app, name="keys")
app.add_typer(configuration.app, name="catalogue")


def main() -> None:
    """Entry point of the installed command."""
    # Before anything is started: a signal that ends Python at once would leave the embedded PostgreSQL running.
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # nohup has it ignored
        # Whatever SIGTERM does by then: a node finishes what is in flight.
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    sys.exit(run(sys.argv[1:]))


def _stop(number: int, _frame: FrameType | None) -> None:
    """Unwind, so that whatever was started is stopped. The exit status is the shell's for a command that was ended."""
    # Another signal must not interrupt that.
    signal.signal(signal.SIGTERM, lambda *_: None)
    raise SystemExit(128 + number)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status: 0, 1 for an error, 2 for an invalid command line, 78 for an invalid
    variable, which no service manager should try again."""
    try:
        outcome = _command()(args=list(arguments), standalone_mode=False, prog_name="tocsin")
    except typer.TyperException as error:
        # Remove the validator's prefix, which does not help the user.
        return _echo_error(error.format_message().replace(": Value error, ", ": "), error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _echo_error("Stopped.", 130)
    except RejectedAll as error:
        for problem in error.problems:
            _echo_error(problem.detail, 1)
        return 1
    except (TocsinError, UnreadableFileError) as error:
        return _echo_error(str(error), 1)
    except ConfigError as error:
        return _echo_error(str(error), EXIT_CONFIG)
    except Exception as error:
        if not _is_database_error(error):
            raise
        return _echo_error(f"The database is unavailable: {' '.join(str(error).split())}", 1)
    return outcome if isinstance(outcome, int) else 0


@cache
def _command() -> Callable[..., object]:
    """Return the whole command, which takes longer to build than most commands take to run."""
    return get_command(app)


def _echo_error(text: str, status: int) -> int:
    # The help text, shown instead of an error when there are no arguments, has several lines and gets no prefix.
    typer.echo(text if "\n" in text else f"tocsin: {text}", err=True)
    # The state of a service that cannot start says why, also after hours of trying.
    serve.tell_service_manager(f"STATUS={' '.join(text.split())}")
    return status


def _is_database_error(error: Exception) -> bool:
    from django.db import OperationalError

    return isinstance(error, psycopg.OperationalError | OperationalError) or database.is_unavailable(error)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"tocsin {tocsin.__version__}")
        raise typer.Exit
