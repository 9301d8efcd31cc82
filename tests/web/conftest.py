"""A small company with alerts, and signed-in browsers of its users."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from django.core.cache import caches
from django.test import Client, override_settings
from django.utils import translation
from pytest_django import DjangoDbBlocker
from pytest_django.fixtures import Settings

from tests.support.company import PASSWORD, Company, load_company, make_company, make_user
from tests.support.postgres import DatabasePool, Postgres, filled, in_use
from tocsin.alerts.commands import Actor, NewAlert, NewEvent, PagingConfig, PagingMode
from tocsin.alerts.service import create_manual_alert
from tocsin.alerts.states import ActorKind, EventKind, Priority
from tocsin.core.runtime import clock
from tocsin.people.models import User

__all__ = ["PASSWORD", "Company", "make_user"]

#: Passwords are hashed a hundred times a test here: slowness, their hashers' virtue, would be ours.
QUICK_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def quick_passwords(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = QUICK_HASHERS


@pytest.fixture(autouse=True)
def own_mail(settings: Settings) -> None:
    """Mail goes Tocsin's own way, where pytest-django would keep it in a list."""
    settings.MAILERS = {"default": {"BACKEND": "tocsin.web.accounts.adapter.AccountMailBackend"}}


@pytest.fixture(autouse=True)
def own_language() -> Iterator[None]:
    """The language that a page was asked for in stays with its thread, and would be the next test's."""
    yield
    translation.deactivate()


@pytest.fixture
def imports_end(database: str) -> Iterator[None]:
    """Imports that were begun, and mails that are leaving, end before the database goes."""
    yield
    threads_end("import-")
    mails_leave()


def mails_leave() -> None:
    """Returns when the mails about people's accounts have left."""
    threads_end("account mail")


def threads_end(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name.startswith(name):
            thread.join(30)


@pytest.fixture(scope="session")
def company_database_pool(
    postgres: Postgres, template: str, django_db_blocker: DjangoDbBlocker
) -> Iterator[DatabasePool]:
    """Lends databases in which the company is."""
    quick = override_settings(PASSWORD_HASHERS=QUICK_HASHERS)
    with filled(postgres, template, django_db_blocker, quick(make_company)) as databases:
        yield databases


@pytest.fixture
def database(request: pytest.FixtureRequest, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """A database of the test's own, with the company in it where the test asks for that."""
    has_company = "company" in request.fixturenames
    database_pool: DatabasePool = request.getfixturevalue("company_database_pool" if has_company else "database_pool")
    with database_pool.lent() as url, django_db_blocker.unblock(), in_use(url, is_kept=True):
        yield url


@pytest.fixture
def company(database: str, imports_end: None) -> Company:
    caches["process"].clear()
    return load_company()


@pytest.fixture
def browser_of() -> Callable[[User], Client]:
    """A browser in which that person is signed in."""

    def sign_in(user: User) -> Client:
        client = Client(raise_request_exception=False)
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return sign_in


@pytest.fixture
def open_alert(company: Company) -> Callable[..., int]:
    """Opens an alert that pages by the company's policy, and returns its number."""

    def make(subject: str = "VPN down", priority: Priority = Priority.CRITICAL, **columns: str) -> int:
        now = clock.now()
        actor = Actor(ActorKind.INTEGRATION, "HaloITSM")
        alert = NewAlert(0, priority, subject, now, source="HaloITSM", integration_id=company.halo.pk, columns=columns)
        paging = PagingConfig(
            PagingMode.PAGE, company.policy.current_version_id, (), (company.desk.pk,), "By the policy Standard."
        )
        event = NewEvent(0, EventKind.OPENED, now, actor, "Opened by HaloITSM.")
        return create_manual_alert(alert, paging, event, now=now)

    return make
