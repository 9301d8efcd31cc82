"""Integrations, escalation policies and maintenance windows, created and changed at random."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.model import people
from tests.model.system import System
from tests.support.people import ACTOR
from tocsin.core.errors import Rejected
from tocsin.escalation.commands import save_policy as save
from tocsin.escalation.models import Policy
from tocsin.inbound import maintenance_commands as maintenance
from tocsin.inbound.admin.commands import save_integration as save_inbound_integration
from tocsin.inbound.models import Integration, MaintenanceWindow

POLICIES = ("P1", "P2", "P3")
#: Two HaloITSM integrations, and two with a custom mapping and a shared source.
INTEGRATIONS = ("H1", "H2", "M1", "M2")
PRIORITIES = ("critical", "high", "medium", "low")

_MAPPING = {
    "source_id": "id",
    "source_status": "status",
    "source_time": "time",
    "delivery_id": "delivery",
    "subject": "subject",
    "client": "client",
    "priority": "priority",
}

_NOISE_REDUCTION: tuple[dict[str, Any], ...] = (
    {},
    {},
    {},
    {"grouping": {"by": "<field:client>", "within": "30m"}},
    {"parent": "<parent>"},
    {"delay": {"wait": "5m"}},
    {"delay": {"alerts": 2, "within": "10m"}},
    {"delay": {"every": "30m"}},
    {"flapping": {"alerts": 2, "within": "30m", "stable": "5m"}},
    {"flood": {"burst": 2, "every": "5m"}},
)


def set_up(system: System) -> None:
    """Creates the initial policies and integrations."""
    for name in POLICIES:
        save_policy(system, name)
    for name in INTEGRATIONS:
        save_integration(system, name)


def save_policy(system: System, name: str) -> None:
    """Creates or changes the policy. An invalid definition is discarded and drawn again."""
    existing = Policy.objects.filter(name=name).first()
    while True:
        spec = _policy(system, name)
        try:
            save(spec, existing=existing, actor=ACTOR, now=system.now)
        except Rejected:
            continue
        system.record(f"policy {name}: {spec}")
        return


def _policy(system: System, name: str) -> dict[str, Any]:
    rng = system.rng
    effect = rng.choice(["stop", "stop", "pause", "continue"])
    acknowledge: dict[str, Any] = {"effect": effect, "timeout": rng.choice(["5m", "30m"])}
    if effect == "pause":
        acknowledge["pause"] = rng.choice(["2m", "10m", "45m"])
    if rng.random() < 0.15:
        acknowledge["people"] = 2
    spec: dict[str, Any] = {"name": name, "acknowledge": acknowledge}
    spec["steps"] = [_step(system) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.4:
        spec["repeat"] = {"times": rng.randint(1, 2), "every": rng.choice(["3m", "10m"])}
    if rng.random() < 0.2:
        spec["groups_sequential"] = "5m"
    ends: list[dict[str, Any]] = [{"then": "keep_last_step", "every": "15m"}, {"then": "nothing"}]
    if name != POLICIES[0]:
        ends.append({"then": "hand_over", "policy": POLICIES[0]})
    if rng.random() < 0.4:
        spec["end"] = rng.choice(ends)
    return spec


def _step(system: System) -> dict[str, Any]:
    rng = system.rng
    whom: list[dict[str, Any]] = [
        {"roles": rng.sample(people.ROLES, rng.randint(1, 2))},
        {"roles": ["primary"]},
        {"roles": ["primary"], "previous_on_call": True},
        {"users": rng.sample(people.active(system), 1)},
        {"everybody": True},
    ]
    step: dict[str, Any] = {"notify": rng.choice(whom), "after": rng.choice(["0m", "0m", "2m", "5m", "10m"])}
    extras: list[dict[str, Any]] = [
        {"sequential": rng.choice(["1m", "3m"])},
        {"retries": {"times": rng.randint(1, 2), "every": rng.choice(["1m", "4m"])}},
        {"only_until_acknowledged": True},
        {"if_empty": "wait"},
        {"when": {"priority": rng.sample(PRIORITIES, 2)}},
        {"when": {"during": rng.choice(["Office", {"not": "Nights"}])}},
    ]
    for extra in extras:
        if rng.random() < 0.12:
            step |= extra
    return step


def save_integration(system: System, name: str) -> None:
    """Creates or changes the integration."""
    rng = system.rng
    spec: dict[str, Any] = {"name": name, "anyway": True, "escalation_policy": rng.choice(POLICIES)}
    spec["mode"] = "page" if rng.random() < 0.85 else "dry_run"
    spec["recipients"] = {"groups": rng.sample(people.GROUPS, rng.randint(1, 2))} if rng.random() < 0.9 else {}
    if rng.random() < 0.2:
        urgent = {"field": "priority", "operator": "equals", "value": "critical"}
        spec["routes"] = [{"when": urgent, "escalation_policy": rng.choice(POLICIES)}]
    if rng.random() < 0.2:
        quiet = {
            "during": {"not": "Office"},
            "priority": rng.choice(PRIORITIES),
            "action": rng.choice(["page", "record"]),
        }
        spec["routes"] = [*spec.get("routes", []), quiet]
    if name.startswith("H"):
        spec |= {"kind": "haloitsm", "settings": {"halo_address": "https://acme.haloitsm.com"}}
    else:
        opens = {"field": "source_status", "operator": "equals", "value": "New"}
        rules = {"open": opens, "close": {**opens, "value": "Closed"}, "update": True}
        spec |= {"kind": "api", "source": "Shared", "mapping": _MAPPING, "rules": rules, **rng.choice(_NOISE_REDUCTION)}
    system.record(f"integration {name}: {spec}")
    save_inbound_integration(spec, existing=Integration.objects.filter(name=name).first(), actor=ACTOR, now=system.now)


def save_maintenance(system: System) -> None:
    """Saves a maintenance window that starts now or recurs daily, for one integration or all."""
    rng = system.rng
    name = f"W{rng.randint(1, 3)}"
    ends = system.now + timedelta(minutes=rng.choice([10, 90]))
    spec: dict[str, Any] = {"name": name, "action": rng.choice(["suppress", "hold"])}
    if rng.random() < 0.5:
        spec |= {"starts": f"{system.now:%Y-%m-%d %H:%M}", "ends": f"{ends:%Y-%m-%d %H:%M}"}
    else:
        begins = system.now + timedelta(minutes=rng.choice([-5, 2, 20]))
        spec |= {"repeat": "daily", "from": f"{begins:%H:%M}", "lasts": rng.choice(["10m", "90m"])}
    if rng.random() < 0.6:
        spec["integrations"] = [rng.choice(INTEGRATIONS)]
    system.record(f"maintenance {spec}")
    existing = MaintenanceWindow.objects.filter(name=name).first()
    maintenance.save_window(spec, existing=existing, actor=ACTOR, now=system.now)


def end_maintenance(system: System) -> None:
    """Ends or deletes a maintenance window, if there is one."""
    window = MaintenanceWindow.objects.order_by("name").first()
    if window is not None:
        end = system.rng.choice([maintenance.end_now, maintenance.delete_window])
        system.record(f"maintenance {window.name}: {end.__name__}")
        end(window, actor=ACTOR, now=system.now)
