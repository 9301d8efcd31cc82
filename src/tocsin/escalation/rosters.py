"""Loads what a turn needs to know about people, for many runs at once: who is on call, and who can be reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from tocsin.core import database
from tocsin.core.database import Connection
from tocsin.escalation.policy import references
from tocsin.escalation.runs import RunState
from tocsin.escalation.targets import Contact, Duty, Reach, Roster
from tocsin.notify import queue
from tocsin.notify.channels.registry import address_problem
from tocsin.notify.plan import Person, offsets
from tocsin.oncall import lookup, rota
from tocsin.oncall.rota import OnCall

_GROUPS = "SELECT id, name FROM people_group WHERE id = ANY(%s)"
_CONTACTS = "SELECT id, group_id, label FROM people_groupcontact WHERE group_id = ANY(%s) ORDER BY position, id"


def roster(connection: Connection, runs: Iterable[RunState], at: datetime) -> Roster:
    """Everybody whom these runs may page or tell at `at`: a fixed number of statements, however many runs."""
    groups: set[int] = set()
    users: set[int] = set()
    for run in runs:
        named_users, named_groups = references(run.plan)
        groups |= {*run.recipient_groups, *named_groups}
        users |= {*run.recipient_users, *named_users}
    return load(connection, groups, users, at)


def load(connection: Connection, groups: Iterable[int], users: Iterable[int], at: datetime) -> Roster:
    """The roster of these groups and users, and of the administrators."""
    wanted = sorted(set(groups))
    on_call = lookup.on_call(connection, wanted, at)
    called = {person.user_id for people in on_call.values() for person in people}
    admins = queue.administrators(connection)
    people = queue.people_of(connection, {*users, *called, *admins})
    return Roster(
        duties=_duties(connection, wanted, on_call),
        people={
            person.id: Reach(person.id, person.name, _offsets(person)) for person in people.values() if person.is_active
        },
        admins=tuple(admins),
    )


def _offsets(person: Person) -> tuple[timedelta, ...]:
    """When the pages by those methods leave that can be used at all."""
    return offsets(method for method in person.methods if address_problem(method.channel, method.address) is None)


def _duties(connection: Connection, groups: list[int], on_call: Mapping[int, tuple[OnCall, ...]]) -> dict[int, Duty]:
    if not groups:
        return {}
    contacts: dict[int, list[Contact]] = {}
    for row in database.rows(connection, _CONTACTS, (groups,)):
        contacts.setdefault(row["group_id"], []).append(Contact(row["id"], row["label"]))
    return {
        row["id"]: Duty(
            row["id"],
            row["name"],
            {
                role: tuple(person.user_id for person in people)
                for role, people in rota.by_role(on_call.get(row["id"], ())).items()
            },
            tuple(contacts.get(row["id"], ())),
        )
        for row in database.rows(connection, _GROUPS, (groups,))
    }
