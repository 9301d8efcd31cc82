"""Opens the database for one command, concurrently with other users of it, and sets up Django.

Modules that need Django's models must be imported afterwards, so commands import them inside their functions.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from tocsin.core.config import crypto, environment
from tocsin.core.config.environment import Config
from tocsin.core.db import database
from tocsin.core.db.start_up import wait_for_database
from tocsin.core.embedded_server import EmbeddedPostgres
from tocsin.core.errors import Rejected
from tocsin.core.reasons import sentence
from tocsin.core.runtime import clock
from tocsin.operate import service

#: The option that every command accepts.
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="D",
        help="The data directory. Default: $TOCSIN_DATA_DIR, else the platform's data folder for tocsin.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class DatabaseSession:
    """The database in use: its URL, and the embedded server if there is one (calling `start()` again revives a killed
    server)."""

    config: Config
    url: str
    embedded: EmbeddedPostgres | None


def configure(data_dir: Path | None) -> Config:
    """Read the configuration, with `data_dir` instead of `TOCSIN_DATA_DIR`. Raises ConfigError."""
    if data_dir is not None:
        os.environ["TOCSIN_DATA_DIR"] = str(data_dir.expanduser().absolute())
    environment.read_again()
    return environment.current()


@contextmanager
def open_database(
    data_dir: Path | None, *, migrate: bool = True, startup_timeout: timedelta = timedelta()
) -> Iterator[DatabaseSession]:
    """Open the database of `data_dir` or of `TOCSIN_DATABASE_URL`, set up Django and, with `migrate`, migrate the
    tables.

    Waits up to `startup_timeout` for a server that does not accept connections yet. The embedded server is started, or
    shared with a running Tocsin, and stopped by its last user. Raises ConfigError; Rejected if the service uses another
    database; Permanent and Temporary from starting the server; and psycopg's or Django's OperationalError.
    """
    settings = configure(data_dir)
    _refuse_another_database(settings)
    embedded = None if settings.database_url else EmbeddedPostgres(settings.data_dir)
    # Before the import, which makes the secret key.
    if embedded:
        embedded.check()
    crypto.check()
    try:
        # The import takes as long as initdb. The wait for the server may be longer, and is here, where signals end it.
        with ThreadPoolExecutor(1, "imports") as beside:
            is_set_up = beside.submit(set_up_django)
            url = wait_for_database(embedded.start, startup_timeout) if embedded else settings.database_url
            is_set_up.result()
        assert url is not None
        database.use(url)
        _use_in_django(url)
        if migrate:
            revive = embedded.start if embedded else lambda: None
            is_shared = embedded is None
            wait_for_database(lambda: _migrate(is_shared=is_shared), startup_timeout, revive=revive)
            _use_settings()
        yield DatabaseSession(settings, url, embedded)
    except Exception:
        # A server that replays its WAL for longer than a start waits must not begin anew with the next one.
        if embedded:
            embedded.keep_if_recovering()
        raise
    finally:
        _close()
        if embedded:
            embedded.release()


def _migrate(*, is_shared: bool) -> None:
    """Migrate the tables; existing ones are backed up first."""
    from tocsin.core.db import migrate, partitions
    from tocsin.operate.backup import writing

    if migrate.migrate(writing.back_up, is_shared=is_shared):
        partitions.create_current(clock.now())


def _use_settings() -> None:
    """Let the stored settings stand for the variables that are not set."""
    from tocsin.core.config import settings_store

    with database.connection() as connection:
        settings_store.follow(connection)


def configuration_folder() -> Path:
    """Return the current user's configuration directory."""
    return platformdirs.user_config_path()


def _refuse_another_database(settings: Config) -> None:
    """Reject a command that would use the built-in database although the service uses another one.

    The service's variables are in a file that the shell has not loaded. Changes to the built-in database, which may be
    a leftover, would be lost, and a backup of it would be worthless.
    """
    if settings.database_url is not None or "TOCSIN_DATA_DIR" in os.environ:
        return
    for location in (service.system_location(), service.user_location(configuration_folder())):
        try:
            has_external_database = service.names_database(location.environment.read_text())
        except OSError:
            continue
        if has_external_database:
            raise Rejected(
                "another_database",
                sentence(
                    "The service uses the database that {file} names, which this shell does not know. Run this "
                    "first: set -a; . "
                    "{quoted}; set +a. Or name a data directory with --data-dir.",
                    file=str(location.environment),
                    quoted=shlex.quote(str(location.environment)),
                ),
            )


def set_up_django() -> None:
    """Load Django's models. The database need not be available."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tocsin.settings")
    django.setup()


def _use_in_django(url: str) -> None:
    """Name the database in Django's settings, which were read before it was known."""
    from django.conf import settings

    settings.DATABASES["default"].update(database.django_settings(url))


def _close() -> None:
    from django.conf import settings
    from django.db import connections

    if settings.configured:
        connections.close_all()
    database.close()
