"""What the fork server of `tests.support.forked_command` loads: the modules of a node, with Django set up."""

from __future__ import annotations

import gc
import importlib
import io
import os as os_module
import sys
from contextlib import redirect_stdout
from unittest.mock import patch

# A fork reads its own variables. Nothing answers here.
os_module.environ["TOCSIN_SECRET_KEY"] = "a-key-for-preloading-0123456789abcdef"
os_module.environ["TOCSIN_DATABASE_URL"] = "postgresql:///none?host=/nonexistent"
os_module.environ["DJANGO_SETTINGS_MODULE"] = "tocsin.settings"

import django
from django.conf import Settings, settings
from django.db import connections
from django.db.migrations.loader import MigrationLoader

django.setup()

import tocsin.cli.main  # noqa: E402
import tocsin.node  # noqa: E402
import tocsin.web.urls  # noqa: E402
import tocsin.web_process  # noqa: E402
from tocsin.cli import session  # noqa: E402

MigrationLoader(None)
with redirect_stdout(io.StringIO()):
    # Typer builds all commands before it runs the first.
    tocsin.cli.main.run(["--version"])
gc.collect()
gc.freeze()


def run(arguments: list[str]) -> int:
    """Runs a command in a fork, with the environment that it has now; its exit status."""
    with patch.object(session, "set_up_django", _read_settings):
        return tocsin.cli.main.run(arguments)


def _read_settings() -> None:
    """Takes the place of setting Django up where the command does so: only the settings are read again."""
    os_module.environ.setdefault("DJANGO_SETTINGS_MODULE", "tocsin.settings")
    importlib.reload(sys.modules["tocsin.settings"])
    settings._wrapped = Settings("tocsin.settings")
    vars(connections).pop("settings", None)
    connections.__init__()  # type: ignore[misc]
