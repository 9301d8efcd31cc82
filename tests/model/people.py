"""Users, contact methods, groups and schedules, created and changed at random."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.model.system import System
from tests.support.people import ACTOR
from tocsin.oncall.changes import commands as oncall
from tocsin.oncall.changes import overrides
from tocsin.oncall.models import Schedule
from tocsin.people.changes import groups, out_of_office, users
from tocsin.people.models import Group, User

#: Responders. The administrator Erin is never changed.
NAMES = ("alice", "bob", "carol", "dave", "frank")
GROUPS = ("Desk", "Net")
ROLES = ("primary", "secondary", "lead")


def set_up(system: System) -> None:
    """Creates the initial users and groups, and schedules for some groups."""
    for name in NAMES:
        make_user(system, name)
    make_user(system, "erin", role="admin")
    for group in GROUPS:
        save_group(system, group)
        if system.rng.random() < 0.5:
            save_schedule(system, group)


def active(system: System) -> list[str]:
    """The enabled responders, or Erin if there is none."""
    found_users = User.objects.filter(username__in=NAMES, is_active=True).order_by("username")
    return list(found_users.values_list("username", flat=True)) or ["erin"]


def phone_numbers() -> list[str]:
    """The phone numbers of all users, with or without a contact method."""
    return [_phone(name) for name in (*NAMES, "erin")]


def make_user(system: System, name: str, role: str = "responder") -> None:
    spec: dict[str, Any] = {"username": name, "name": name.title(), "email": f"{name}@example.org", "role": role}
    spec |= {"contact_methods": contact_methods(system, name), "notification_rules": notification_rules(system)}
    users.save_user(spec, actor=ACTOR, now=system.now)


def change_user(system: System) -> None:
    """Disables or enables a user, or changes their contact methods or notification rules."""
    rng = system.rng
    user = User.objects.get(username=rng.choice(NAMES))
    spec = users.user_spec(user)
    if rng.random() < 0.4:
        spec["active"] = not user.is_active
        system.toggled_users.add(user.pk)
    if rng.random() < 0.5:
        spec |= {"contact_methods": contact_methods(system, user.username), "notification_rules": {}}
    elif rng.random() < 0.3:
        spec["notification_rules"] = notification_rules(system)
    system.record(f"user {user.username}: active {spec.get('active', True)}, {spec.get('contact_methods')}")
    users.save_user(spec, existing=user, actor=ACTOR, now=system.now)


def replace_user(system: System) -> None:
    """Deletes a user and creates another with the same name."""
    name = system.rng.choice(NAMES)
    system.record(f"user {name} is replaced")
    users.delete_user(User.objects.get(username=name), actor=ACTOR, now=system.now)
    make_user(system, name)


def change_contact_method(system: System) -> None:
    """Adds, changes, renames or deletes a contact method."""
    rng = system.rng
    user = User.objects.get(username=rng.choice(NAMES))
    spec = rng.choice(contact_methods(system, user.username))
    existing = rng.choice([None, *user.contact_methods.all()])
    if existing is not None and rng.random() < 0.4:
        system.record(f"{user.username} deletes {existing.label}")
        users.delete_contact_method(existing, actor=ACTOR, now=system.now)
        return
    if rng.random() < 0.4:
        spec["label"] = rng.choice(["Mobile", "Mobile 2"])
    system.record(f"{user.username} makes {existing.label if existing else 'a new method'} {spec}")
    users.save_contact_method(user, spec, existing=existing, actor=ACTOR, now=system.now)


def contact_methods(system: System, name: str) -> list[dict[str, Any]]:
    rng = system.rng
    addresses = {"email": f"{name}@example.org", "ntfy": f"{name}-topic", "sms": _phone(name), "voice": _phone(name)}
    methods = []
    for channel in rng.sample(sorted(addresses), rng.randint(1, 3)):
        method: dict[str, Any] = {"label": f"{channel}-1", "channel": channel, "address": addresses[channel]}
        if rng.random() < 0.4:
            method["wait"] = rng.choice(["1m", "3m", "10m"])
        if rng.random() < 0.3:
            method["repeat"] = {"times": rng.randint(1, 2), "every": rng.choice(["1m", "5m"])}
        if rng.random() < 0.1:
            method["enabled"] = False
        methods.append(method)
    return methods


def _phone(name: str) -> str:
    return f"+4179000000{[*NAMES, 'erin'].index(name)}"


def notification_rules(system: System) -> dict[str, Any]:
    """Mostly none; otherwise quiet hours, an hourly limit, or both."""
    rng = system.rng
    rules: dict[str, Any] = {}
    if rng.random() < 0.15:
        quiet = {"from": f"{rng.randint(0, 23):02}:00", "to": f"{rng.randint(0, 23):02}:30"}
        rules["quiet_hours"] = [{**quiet, "let_through": rng.choice(["critical", "high"])}]
    if rng.random() < 0.1:
        rules["most_per_hour"] = rng.randint(1, 3)
    return rules


def save_group(system: System, name: str) -> None:
    """Creates the group, or changes its members."""
    rng = system.rng
    chosen = rng.sample(NAMES, rng.randint(2, 4))
    members = [
        {"user": user, "roles": [rng.choice(ROLES) if index else "primary"]} for index, user in enumerate(chosen)
    ]
    spec: dict[str, Any] = {"name": name, "members": members}
    if rng.random() < 0.3:
        spec["contacts"] = [{"label": "List", "channel": "email", "address": f"{name.lower()}-list@example.org"}]
    system.record(f"group {name}: {members}")
    groups.save_group(spec, existing=Group.objects.filter(name=name).first(), actor=ACTOR, now=system.now)


def save_schedule(system: System, group: str) -> None:
    rng = system.rng
    rotation = {"every": rng.choice(["2h", "12h", "1d"]), "at": "09:00", "users": rng.sample(NAMES, 3)}
    rotation["roles"] = rng.choice([["primary"], ["primary", "secondary"]])
    shifts = [{"name": "Rota", "start": "2026-11-01", "rotate": rotation}]
    spec = {"name": f"{group} shifts", "group": group, "time_zone": "UTC", "shifts": shifts}
    system.record(f"schedule {spec}")
    existing = Schedule.objects.filter(name=spec["name"]).first()
    oncall.save_schedule(spec, existing=existing, actor=ACTOR, now=system.now)


def add_absence(system: System) -> None:
    """Adds an absence, with or without a cover."""
    rng = system.rng
    name, *others = rng.sample(active(system), len(active(system)))
    spec = {"from": (system.now - timedelta(minutes=5)).isoformat()}
    spec["to"] = (system.now + timedelta(hours=rng.choice([1, 9]))).isoformat()
    if others and rng.random() < 0.5:
        spec["cover"] = others[0]
    system.record(f"{name} is absent {spec}")
    out_of_office.save_absence(User.objects.get(username=name), spec, actor=ACTOR, now=system.now)


def override(system: System) -> None:
    """Adds an override to a schedule, if there is one."""
    schedule = Schedule.objects.order_by("name").first()
    if schedule is None:
        return
    spec = {"schedule": schedule.name, "user": system.rng.choice(active(system)), "role": "primary"}
    spec |= {"from": system.now.isoformat(), "to": (system.now + timedelta(hours=2)).isoformat()}
    system.record(f"override {spec}")
    overrides.save_override(spec, actor=ACTOR, now=system.now)
