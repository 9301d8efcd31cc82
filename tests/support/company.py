"""The small company of the web tests: created once by the commands of the application."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tocsin.access.audit import COMMAND_LINE
from tocsin.core.runtime import clock
from tocsin.escalation import commands as policies
from tocsin.escalation.models import Policy
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.models import Integration
from tocsin.people.changes import groups
from tocsin.people.changes import users as people
from tocsin.people.models import Group, User

PASSWORD = "a tall green bicycle"


@dataclass(frozen=True, slots=True)
class Company:
    """Who and what there is."""

    admin: User
    manager: User
    responder: User
    observer: User
    desk: Group
    #: A group that none of them but the administrator is in.
    night: Group
    policy: Policy
    halo: Integration
    now: datetime


def make_user(username: str, role: str, name: str = "") -> User:
    """A user who can sign in with PASSWORD."""
    spec = {"username": username, "name": name, "email": f"{username}@example.org", "role": role}
    return people.save_user(spec, actor=COMMAND_LINE, now=clock.now(), password=PASSWORD)


def make_company() -> None:
    """Makes the company in the database in use."""
    now = clock.now()
    make_user("alice", "admin", "Alice Andersson")
    make_user("mia", "manager", "Mia Manager")
    make_user("bob", "responder", "Bob Brown")
    make_user("olga", "observer", "Olga Observer")
    members = [
        {"user": "bob", "roles": ["primary"]},
        {"user": "alice", "roles": ["secondary"]},
        {"user": "mia", "roles": ["lead"]},
    ]
    groups.save_group({"name": "Service Desk", "members": members}, actor=COMMAND_LINE, now=now)
    groups.save_group({"name": "Night", "members": [{"user": "alice"}]}, actor=COMMAND_LINE, now=now)
    steps = [
        {"notify": {"roles": ["primary"]}, "after": "0m"},
        {"notify": {"roles": ["secondary"]}, "after": "5m"},
    ]
    policies.save_policy({"name": "Standard", "group": "Service Desk", "steps": steps}, actor=COMMAND_LINE, now=now)
    integrations.save_integration(
        {
            "name": "HaloITSM",
            "kind": "haloitsm",
            "group": "Service Desk",
            "escalation_policy": "Standard",
            "recipients": {"groups": ["Service Desk"]},
            "settings": {"halo_address": "https://acme.haloitsm.com"},
        },
        actor=COMMAND_LINE,
        now=now,
    )


def load_company() -> Company:
    """The company of the database in use, as if it were made in this moment."""
    users = {user.username: user for user in User.objects.all()}
    teams = {group.name: group for group in Group.objects.all()}
    return Company(
        users["alice"], users["mia"], users["bob"], users["olga"], teams["Service Desk"], teams["Night"],
        Policy.objects.get(), Integration.objects.get(), clock.now(),
    )  # fmt: skip
