"""People for the store tests, made as the application makes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tocsin.access.audit import Actor
from tocsin.people import commands, groups
from tocsin.people.models import Group, User

ACTOR = Actor(None, "Test", "yaml")


def make_user(username: str, now: datetime, **spec: object) -> User:
    """A responder with one contact method by e-mail."""
    whole = {"username": username, "email": f"{username}@example.org", **spec}
    return commands.save_user(whole, actor=ACTOR, now=now)


def make_group(name: str, now: datetime, members: Sequence[str] = ()) -> Group:
    """A group whose first member is primary, the others secondary."""
    entries = [{"user": user, "roles": ["secondary" if number else "primary"]} for number, user in enumerate(members)]
    return groups.save_group({"name": name, "members": entries}, actor=ACTOR, now=now)
