"""Who is there and how they are reached: people, groups and shifts, made and changed at random."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.store.people import ACTOR
from tests.walk.world import World
from tocsin.oncall.changes import commands as oncall
from tocsin.oncall.changes import overrides
from tocsin.oncall.models import Schedule
from tocsin.people.changes import groups, out_of_office, users
from tocsin.people.models import Group, User

#: Responders. Erin, who administrates, is never changed.
NAMES = ("alice", "bob", "carol", "dave", "frank")
GROUPS = ("Desk", "Net")
ROLES = ("primary", "secondary", "manager")


def settle_in(world: World) -> None:
    """The people and groups of the beginning, and shifts for some."""
    for name in NAMES:
        make_user(world, name)
    make_user(world, "erin", role="admin")
    for group in GROUPS:
        save_group(world, group)
        if world.rng.random() < 0.5:
            save_schedule(world, group)


def active(world: World) -> list[str]:
    """The responders who are not switched off; Erin, if there is none."""
    found = User.objects.filter(username__in=NAMES, is_active=True).order_by("username")
    return list(found.values_list("username", flat=True)) or ["erin"]


def phone_numbers() -> list[str]:
    """Everybody's, whether or not they have a contact method of it now."""
    return [_phone(name) for name in (*NAMES, "erin")]


def make_user(world: World, name: str, role: str = "responder") -> None:
    spec: dict[str, Any] = {"username": name, "name": name.title(), "email": f"{name}@example.org", "role": role}
    spec |= {"contact_methods": contact_methods(world, name), "notification_rules": notification_rules(world)}
    users.save_user(spec, actor=ACTOR, now=world.now)


def change_user(world: World) -> None:
    """Switches somebody off or on, or gives them other contact methods or rules."""
    rng = world.rng
    user = User.objects.get(username=rng.choice(NAMES))
    spec = users.user_spec(user)
    if rng.random() < 0.4:
        spec["active"] = not user.is_active
        world.switched_off.add(user.pk)
    if rng.random() < 0.5:
        spec |= {"contact_methods": contact_methods(world, user.username), "notification_rules": {}}
    elif rng.random() < 0.3:
        spec["notification_rules"] = notification_rules(world)
    world.say(f"user {user.username}: active {spec.get('active', True)}, {spec.get('contact_methods')}")
    users.save_user(spec, existing=user, actor=ACTOR, now=world.now)


def replace_user(world: World) -> None:
    """Deletes somebody; another one comes by the same name."""
    name = world.rng.choice(NAMES)
    world.say(f"user {name} is deleted, and another comes")
    users.delete_user(User.objects.get(username=name), actor=ACTOR, now=world.now)
    make_user(world, name)


def change_contact_method(world: World) -> None:
    """One of somebody's contact methods changes, is renamed, goes, or comes."""
    rng = world.rng
    user = User.objects.get(username=rng.choice(NAMES))
    spec = rng.choice(contact_methods(world, user.username))
    existing = rng.choice([None, *user.contact_methods.all()])
    if existing is not None and rng.random() < 0.4:
        world.say(f"{user.username} deletes {existing.label}")
        users.delete_contact_method(existing, actor=ACTOR, now=world.now)
        return
    if rng.random() < 0.4:
        spec["label"] = rng.choice(["Mobile", "Mobile 2"])
    world.say(f"{user.username} makes {existing.label if existing else 'a new method'} {spec}")
    users.save_contact_method(user, spec, existing=existing, actor=ACTOR, now=world.now)


def contact_methods(world: World, name: str) -> list[dict[str, Any]]:
    rng = world.rng
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


def notification_rules(world: World) -> dict[str, Any]:
    """Mostly none; otherwise quiet hours, a limit of messages, or both."""
    rng = world.rng
    rules: dict[str, Any] = {}
    if rng.random() < 0.15:
        quiet = {"from": f"{rng.randint(0, 23):02}:00", "to": f"{rng.randint(0, 23):02}:30"}
        rules["quiet_hours"] = [{**quiet, "let_through": rng.choice(["critical", "high"])}]
    if rng.random() < 0.1:
        rules["most_per_hour"] = rng.randint(1, 3)
    return rules


def save_group(world: World, name: str) -> None:
    """Makes the group, or gives it other members."""
    rng = world.rng
    chosen = rng.sample(NAMES, rng.randint(2, 4))
    members = [
        {"user": user, "roles": [rng.choice(ROLES) if index else "primary"]} for index, user in enumerate(chosen)
    ]
    spec: dict[str, Any] = {"name": name, "members": members}
    if rng.random() < 0.3:
        spec["contacts"] = [{"label": "List", "channel": "email", "address": f"{name.lower()}-list@example.org"}]
    world.say(f"group {name}: {members}")
    groups.save_group(spec, existing=Group.objects.filter(name=name).first(), actor=ACTOR, now=world.now)


def save_schedule(world: World, group: str) -> None:
    rng = world.rng
    rotation = {"every": rng.choice(["2h", "12h", "1d"]), "at": "09:00", "users": rng.sample(NAMES, 3)}
    rotation["roles"] = rng.choice([["primary"], ["primary", "secondary"]])
    shifts = [{"name": "Rota", "start": "2026-11-01", "rotate": rotation}]
    spec = {"name": f"{group} shifts", "group": group, "time_zone": "UTC", "shifts": shifts}
    world.say(f"schedule {spec}")
    existing = Schedule.objects.filter(name=spec["name"]).first()
    oncall.save_schedule(spec, existing=existing, actor=ACTOR, now=world.now)


def send_away(world: World) -> None:
    """Somebody is absent for a while, with or without cover."""
    rng = world.rng
    name, *others = rng.sample(active(world), len(active(world)))
    spec = {"from": (world.now - timedelta(minutes=5)).isoformat()}
    spec["to"] = (world.now + timedelta(hours=rng.choice([1, 9]))).isoformat()
    if others and rng.random() < 0.5:
        spec["cover"] = others[0]
    world.say(f"{name} is absent {spec}")
    out_of_office.save_absence(User.objects.get(username=name), spec, actor=ACTOR, now=world.now)


def override(world: World) -> None:
    """Somebody takes over a schedule for a while, if there is one."""
    schedule = Schedule.objects.order_by("name").first()
    if schedule is None:
        return
    spec = {"schedule": schedule.name, "user": world.rng.choice(active(world)), "role": "primary"}
    spec |= {"from": world.now.isoformat(), "to": (world.now + timedelta(hours=2)).isoformat()}
    world.say(f"override {spec}")
    overrides.save_override(spec, actor=ACTOR, now=world.now)
