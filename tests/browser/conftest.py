"""Chromium, and a running Tocsin with a mail server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from pytest_django import DjangoDbBlocker

from tests.doubles.smtp import SmtpDouble, smtp_double
from tests.support import service_desk
from tests.support.browser import ARGUMENTS
from tests.support.postgres import Postgres, new_database
from tests.support.server_process import ServerProcess, serve
from tests.support.service_desk import ServiceDesk
from tocsin.alerts import service
from tocsin.alerts.commands import SYSTEM, Close
from tocsin.alerts.models import Alert
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ACTIVE
from tocsin.core.runtime import clock

# A page that is right is seen at once; how long a wrong one is waited for costs nothing, and processors may be busy.
expect.set_options(timeout=15_000)

CHROMIUM = ("chromium", "chromium-browser")

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"


def find_program(*names: str) -> str:
    """The path of Debian's Chromium. Where there is none the tests are skipped, except in CI, where they fail."""
    path = next((value for name in names if (value := shutil.which(name))), None)
    if path is None:
        problem = "There is no Chromium: apt-get install chromium, and run `make test` again."
        if os.environ.get("CI"):
            pytest.fail(problem)
        pytest.skip(problem)
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without windows where it is installed, which needs a quarter less processor time; else the whole one."""
    path = find_program("chromium-headless-shell", *CHROMIUM)
    # Playwright's event loop lives in this thread as long as the browser does; Django would refuse to work beside it.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        found_browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield found_browser
        found_browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def whole_browser(browser: Browser) -> Iterator[Browser]:
    """The whole Chromium: the one without windows does not support push messages."""
    found_browser = browser.browser_type.launch(executable_path=find_program(*CHROMIUM), args=ARGUMENTS)
    yield found_browser
    found_browser.close()


@pytest.fixture
def mails() -> Iterator[SmtpDouble]:
    """A mail server that keeps what it gets."""
    with smtp_double() as double:
        yield double


@pytest.fixture
def tocsin(database: str, mails: SmtpDouble, tmp_path: Path) -> Iterator[ServerProcess]:
    """A new installation, without an administrator, whose mail goes to `mails`."""
    with serve(tmp_path, database, TOCSIN_SMTP_URL=mails.url, TOCSIN_EMAIL_FROM="tocsin@example.org") as running:
        yield running


@pytest.fixture(scope="module")
def shared_database(postgres: Postgres, template: str, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """One database for a module whose tests do not disturb each other."""
    with new_database(postgres, template, django_db_blocker) as url:
        yield url


@pytest.fixture(scope="module")
def shared_desk(shared_database: str) -> ServiceDesk:
    return service_desk.set_up()


@pytest.fixture(scope="module")
def shared_server(
    shared_desk: ServiceDesk, shared_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    with serve(tmp_path_factory.mktemp("shared"), shared_database) as server:
        yield server


@pytest.fixture
def desk(shared_desk: ServiceDesk) -> Iterator[ServiceDesk]:
    """A small service desk in the database of `running`, without an open alert."""
    yield shared_desk
    for number in Alert.objects.filter(status__in=ACTIVE).values_list("pk", flat=True):
        service.apply_command(FoundAlert.by_tocsin(number), Close(actor=SYSTEM), now=clock.now())


@pytest.fixture
def running(desk: ServiceDesk, shared_server: ServerProcess) -> ServerProcess:
    """The module's installation with that desk, whose messages stay in the sandbox."""
    return shared_server
