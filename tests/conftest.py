"""What every test may ask for. The environment is set before Django's settings are read from it."""

from __future__ import annotations

import gc
import os as os_module
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

# Loading modules makes no garbage.
gc.set_threshold(500_000, 20, 50)

for _name in [name for name in os_module.environ if name.startswith("TOCSIN_") and not name.startswith("TOCSIN_TEST_")]:
    del os_module.environ[_name]
os_module.environ["DJANGO_SETTINGS_MODULE"] = "tocsin.settings"
os_module.environ["TOCSIN_SECRET_KEY"] = "a-key-for-tests-only-0123456789abcdef"
# Nothing answers here: a test that wants a database asks for the fixture `database`.
os_module.environ["TOCSIN_DATABASE_URL"] = "postgresql:///none?host=/nonexistent"
os_module.environ["TOCSIN_DATA_DIR"] = str(Path(tempfile.gettempdir()) / f"tocsin-tests-data-{os_module.getuid()}")

import django  # noqa: E402

django.setup()

import tests.support.static_files  # noqa: E402, F401
from tests.support.hypothesis_profiles import register_profiles  # noqa: E402
from tests.support.postgres import Postgres, database, database_pool, django_db_setup, postgres, template  # noqa: E402
from tests.support.reason_coverage import ReasonCoverage  # noqa: E402

__all__ = ["Postgres", "database", "database_pool", "django_db_setup", "now", "postgres", "template"]

register_profiles()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--reason-coverage", type=int, metavar="MAX", help="fail if tests leave more than MAX reason codes unproduced"
    )


def pytest_configure(config: pytest.Config) -> None:
    if (limit := config.getoption("reason_coverage")) is not None:
        config.pluginmanager.register(ReasonCoverage(limit))


def pytest_collection_finish() -> None:
    """Excludes from garbage collection what lives until the end: modules and tests. It is as rare as in a node."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture
def now() -> datetime:
    """The moment at which tests take place: a Tuesday morning."""
    return datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
