"""Opens the database for one command, beside whatever else uses it, and sets up Django on it.

Nothing that needs Django's models is imported before: commands import their parts inside.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tocsin.core import config, database
from tocsin.core.config import Config
from tocsin.core.embedded import EmbeddedPostgres

#: The option that every command has.
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
class Opened:
    """The database in use: its URL, and the embedded server where it is one (`start()` again mends a killed one)."""

    config: Config
    url: str
    embedded: EmbeddedPostgres | None


def configure(data_dir: Path | None) -> Config:
    """Reads the configuration, with `data_dir` in the place of `TOCSIN_DATA_DIR`. Raises ConfigError."""
    if data_dir is not None:
        os.environ["TOCSIN_DATA_DIR"] = str(data_dir.expanduser().absolute())
    config.current.cache_clear()
    return config.current()


@contextmanager
def open_database(data_dir: Path | None, *, migrate: bool = True) -> Iterator[Opened]:
    """The database of `data_dir`, or of `TOCSIN_DATABASE_URL`, with Django set up on it and its tables up to date.

    The embedded server is started, or shared with a running Tocsin, and stopped by its last user. Raises ConfigError,
    Permanent and Temporary from the start of the server, and psycopg's or Django's OperationalError.
    """
    settings = configure(data_dir)
    embedded = None if settings.database_url else EmbeddedPostgres(settings.data_dir)
    url = embedded.start() if embedded else settings.database_url
    assert url is not None
    try:
        database.use(url)
        set_up_django()
        if migrate:
            from tocsin.core import schema

            schema.migrate()
        yield Opened(settings, url, embedded)
    finally:
        _close()
        if embedded:
            embedded.release()


def set_up_django() -> None:
    """Loads Django's models; the database need not answer."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tocsin.settings")
    django.setup()


def _close() -> None:
    from django.conf import settings
    from django.db import connections

    if settings.configured:
        connections.close_all()
    database.close()
