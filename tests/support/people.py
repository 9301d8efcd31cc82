"""Users and groups, created by the commands of the application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime

from tests.support.locks import wait_for_waiters
from tocsin.access.audit import AuditActor
from tocsin.core import hooks
from tocsin.notify.models import Provider
from tocsin.notify.providers.commands import save_provider
from tocsin.people.changes import groups, users
from tocsin.people.models import Group, User

ACTOR = AuditActor(None, "Test", "yaml")


def make_user(username: str, now: datetime, **spec: object) -> User:
    """A responder with one contact method by e-mail."""
    whole = {"username": username, "email": f"{username}@example.org", **spec}
    return users.save_user(whole, actor=ACTOR, now=now)


def make_group(name: str, now: datetime, members: Sequence[str] = ()) -> Group:
    """A group whose first member is primary, the others secondary."""
    entries = [{"user": user, "roles": ["secondary" if number else "primary"]} for number, user in enumerate(members)]
    return groups.save_group({"name": name, "members": entries}, actor=ACTOR, now=now)


def phones(now: datetime) -> Provider:
    """A provider that carries calls to hotlines."""
    secrets = {"account_sid": f"AC{0:032}", "auth_token": "secret", "from_number": "+41445550000"}
    spec = {"name": "Phones", "kind": "twilio", **secrets}
    return Provider.objects.filter(name="Phones").first() or save_provider(spec, actor=ACTOR, now=now)


def while_deleted[T](user: User, work: Callable[[], T], *, now: datetime) -> T:
    """What comes of `work`, which begins in the moment in which the user is deleted: nothing needs them any more, and
    they are not gone yet."""
    with ThreadPoolExecutor(1) as other:
        futures: list[Future[T]] = []

        def needs_nothing(_user: int) -> list[str]:
            futures.append(other.submit(work))
            wait_for_waiters(unless=futures[0].done)
            return []

        with hooks.REFERENCES.restored():
            hooks.REFERENCES.register(needs_nothing, "user")
            users.delete_user(user, actor=ACTOR, now=now)
        return futures[0].result()
