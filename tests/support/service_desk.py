"""A service desk with users, a policy and tickets of one evening, for the tests of every page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from django.contrib.auth.hashers import make_password

from tests.support.server_process import PATIENCE
from tocsin.access import audit, tokens
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.roles import UNLIMITED, MemberRole
from tocsin.core.runtime import clock
from tocsin.core.validation.spec import write_moment
from tocsin.escalation import commands as policies
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.admin import secrets
from tocsin.oncall.changes import commands as oncall
from tocsin.oncall.changes import overrides, swaps
from tocsin.oncall.changes.swaps import ShiftRange
from tocsin.oncall.models import HandoverNote
from tocsin.outbound import commands as outbound
from tocsin.people.changes import groups, out_of_office
from tocsin.people.changes import users as people
from tocsin.people.models import User
from tocsin.workflows import commands as workflows

PASSWORD = "a tall green bicycle"
SAMPLES = Path(__file__).resolve().parents[2] / "src" / "tocsin" / "catalogue" / "kinds" / "haloitsm" / "samples"


@dataclass(frozen=True, slots=True)
class OnCallPlan:
    """The numbers of what says who is on call in a group of its own."""

    group: int
    schedule: int
    override: int
    absence: int
    calendar: int
    hours: int
    handover: int


_PEOPLE = (
    ("alice", "Alice Andersson", "admin", "+41790000001"),
    ("bob", "Bob Brown", "responder", "+13125550142"),
    ("chen", "Chen Wei", "manager", "+41790000003"),
    ("olga", "Olga Observer", "observer", None),
)


@dataclass(frozen=True, slots=True)
class ServiceDesk:
    """Where to post to, and the numbers of what there is."""

    halo_path: str
    monitoring_path: str
    halo: int
    monitoring: int
    policy: int
    group: int
    user: int
    token: str


def set_up() -> ServiceDesk:
    """People, group, policy and two integrations, over the database in use."""
    now = clock.now()
    # Each page by itself and at once: nobody here waits for a bundle.
    audit.change_settings({"bundle_pages": False}, actor=COMMAND_LINE, now=now)
    for username, name, role, phone in _PEOPLE:
        methods = [{"label": "Email-Official", "channel": "email", "address": f"{username}@example.org"}]
        if phone:
            methods.append({"label": "SMS-Official", "channel": "sms", "address": phone})
        spec = {
            "username": username, "name": name, "email": f"{username}@example.org", "role": role,
            "time_zone": "Europe/Zurich", "contact_methods": methods,
        }  # fmt: skip
        user = people.save_user(spec, actor=COMMAND_LINE, now=now)
        if role == "admin":
            admin = user
    User.objects.update(password=_password_hash())
    members = [
        {"user": "alice", "roles": ["primary"]},
        {"user": "bob", "roles": ["secondary"]},
        {"user": "chen", "roles": ["lead"]},
    ]
    desk = groups.save_group(
        {"name": "Service Desk", "time_zone": "Europe/Zurich", "members": members}, actor=COMMAND_LINE, now=now
    )
    steps = [
        {"notify": {"roles": ["primary"]}, "after": "0m"},
        {"notify": {"roles": ["secondary"]}, "after": "5m"},
        {"notify": {"roles": ["primary", "secondary"]}, "after": "10m"},
    ]
    policy = policies.save_policy(
        {"name": "Standard", "steps": steps, "repeat": {"times": 2, "every": "10m"}}, actor=COMMAND_LINE, now=now
    )
    common = {"escalation_policy": "Standard", "recipients": {"groups": ["Service Desk"]}}
    halo = integrations.save_integration(
        {
            "name": "HaloITSM", "kind": "haloitsm", **common,
            "settings": {"halo_address": "https://acme.haloitsm.com", "fail_open": False},
            "filters": {"not": {"field": "ticket_type", "operator": "equals", "value": "Project"}},
        },
        actor=COMMAND_LINE, now=now,
    )  # fmt: skip
    monitoring = integrations.save_integration(
        {"name": "Monitoring", "kind": "api", **common}, actor=COMMAND_LINE, now=now
    )
    # Not in use: no Halo is here to be asked.
    outbound.save_outbound(
        {"name": "Halo", "kind": "haloitsm", "base_url": "https://acme.haloitsm.com", "client_id": "tocsin",
         "client_secret": "none", "enabled": False},
        actor=COMMAND_LINE, now=now,
    )  # fmt: skip
    _set_up_workflows()
    token = tokens.create(admin, "walk", limits=UNLIMITED, actor=COMMAND_LINE, now=now).secret
    return ServiceDesk(
        f"/in/{secrets.token_of(halo)}",
        f"/in/{secrets.token_of(monitoring)}",
        halo.pk,
        monitoring.pk,
        policy.pk,
        desk.pk,
        admin.pk,
        token,
    )


@cache
def _password_hash() -> str:
    """One for all people: making one takes a fifth of a second of a processor."""
    return make_password(PASSWORD)


def plan_on_call() -> OnCallPlan:
    """A group with a schedule that has layers, a gap, an override, an absence without cover and a swap asked for."""
    now = clock.now()
    members = [{"user": "alice", "roles": ["primary"]}, {"user": "bob"}, {"user": "chen"}]
    group = groups.save_group(
        {"name": "Network", "time_zone": "Europe/Zurich", "members": members}, actor=COMMAND_LINE, now=now
    )
    calendar = oncall.save_holiday_calendar(
        {"name": "Zürich", "country": "CH", "region": "ZH", "days": [{"date": "12-24", "name": "Christmas Eve"}]},
        actor=COMMAND_LINE, now=now,
    )  # fmt: skip
    office = [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00"}]
    hours = oncall.save_support_hours(
        {"name": "Office", "time_zone": "Europe/Zurich", "windows": office}, actor=COMMAND_LINE, now=now
    )
    rotate = {"every": "1w", "at": "09:00", "on": "monday", "users": ["alice", "bob", "chen"]}
    weekend = {"windows": [{"from": "fri 17:00", "to": "mon 08:00"}], "users": ["chen"]}
    spec = {
        "name": "Network 24x7", "group": "Network", "time_zone": "Europe/Zurich", "holiday_calendars": ["Zürich"],
        "shifts": [
            {"name": "Weekly", "rotate": rotate, "start": "2026-01-05"},
            {"name": "Weekend", "layer": 2, "fixed": weekend, "holidays": "skip"},
            {"name": "Office", "fixed": {"windows": office, "users": ["bob"], "roles": ["secondary"]}},
        ],
    }  # fmt: skip
    schedule = oncall.save_schedule(spec, actor=COMMAND_LINE, now=now)
    hour = timedelta(hours=1)
    stretch = {"from": write_moment(now - hour), "to": write_moment(now + 15 * hour)}
    override = overrides.save_override(
        {"schedule": "Network 24x7", "user": "chen", "role": "primary", "name": "Concert", **stretch},
        actor=COMMAND_LINE, now=now,
    )  # fmt: skip
    chen, alice = User.objects.get(username="chen"), User.objects.get(username="alice")
    away = {"from": write_moment(now + 48 * hour), "to": write_moment(now + 30 * 24 * hour)}
    absence = out_of_office.save_absence(chen, away, actor=COMMAND_LINE, now=now)
    swaps.request_swap(
        schedule, ShiftRange(now, now + 15 * hour, MemberRole.PRIMARY), requester=override.user, requested_user=alice,
        in_return=None, message="My daughter's concert", actor=COMMAND_LINE, now=now,
    )  # fmt: skip
    handover = HandoverNote.objects.create(
        schedule=schedule, at=now + hour, since=now - 40 * hour, outgoing=[alice.pk], incoming=[chen.pk],
        text="The backup of Acme fails.\nTheir admin is told.",
    )  # fmt: skip
    return OnCallPlan(group.pk, schedule.pk, override.pk, absence.pk, calendar.pk, hours.pk, handover.pk)


def _set_up_workflows() -> None:
    """One that waits, one that acts at once, one that does nothing here, and a button."""
    now = clock.now()
    outbound.save_outbound(
        {"name": "VPN controller", "kind": "http", "url": "https://vpn.example.org/restart", "enabled": False},
        actor=COMMAND_LINE, now=now,
    )  # fmt: skip
    managers = {
        "do": "notify",
        "groups": ["Service Desk"],
        "roles": ["lead"],
        "subject": "Nobody answers: <subject>",
    }
    flows: tuple[dict[str, Any], ...] = (
        {"name": "Not acknowledged in 5 minutes", "trigger": {"on": "unacknowledged", "for": "5m"},
         "start": {"any": [{"field": "priority", "operator": "one of", "value": ["critical", "high"]},
                           {"field": "vip", "operator": "exists"}]},
         "stop": {"field": "status", "operator": "equals", "value": "on_hold"},
         "actions": [managers, {"do": "halo", "text": "Nobody has acknowledged this; the manager is told."}]},
        {"name": "A printer's ticket is tagged", "trigger": "opened",
         "start": {"field": "subject", "operator": "contains", "value": "printer"},
         "actions": [{"do": "set_tags", "tags": {"team": "hardware"}}, {"do": "wait", "for": "10m"}, managers]},
        {"name": "1 hour before the SLA deadline", "trigger": {"on": "before_sla", "by": "1h"}, "enabled": False,
         "actions": [{"do": "notify", "owner": True}]},
        {"name": "Restart the VPN gateway", "trigger": {"on": "manual", "confirm": "Everybody is offline then. Now?"},
         "start": {"field": "subject", "operator": "contains", "value": "VPN"},
         "actions": [{"do": "call", "outbound": "VPN controller"}, {"do": "reply", "text": "The gateway restarts."}]},
    )  # fmt: skip
    for spec in flows:
        workflows.save_workflow(spec, actor=COMMAND_LINE, now=now)


def receive_an_evening(url: str, desk: ServiceDesk) -> dict[str, int]:
    """Posts the evening's tickets to a running server; returns the alerts' numbers by a short name."""
    halo = url + desk.halo_path
    numbers = {
        "certificate": _alert(url + desk.monitoring_path, _problem("cert-7", "Certificate expires in 5 days", "low")),
        "printer": _alert(halo, _ticket(20790, "Printer queue stuck, reception", "Initech", "Medium")),
        "disk": _alert(url + desk.monitoring_path, _problem("9d2f41", "Disk 92 % on db-primary", "high")),
        "mail": _alert(halo, _ticket(20802, "Mail delayed, Globex", "Globex", "Medium")),
        "backup": _alert(halo, _ticket(20811, "Backup job failed on fs-02", "Globex", "High")),
    }
    _post(halo, _ticket(20816, "Quarterly review", "Acme Corp", "Low", tickettype={"name": "Project"}))
    vpn = {
        "details": "VPN gateway zrh-vpn-01 is not responding. Error 0x80072EE2 (timeout). All 40 users at the site are "
        "offline since 10:09; failover did not take over.",
        "site_name": "Zürich", "team": "1st Line Support", "tickettype": {"name": "Incident"},
        "user": {"name": "José Ångström", "phonenumber": "+41 44 555 00 17", "is_vip": True},
        "agent": {"id": 1, "name": "Unassigned"}, "fixbydate": "2026-11-25T14:14:00",
    }  # fmt: skip
    numbers["vpn"] = _alert(halo, _ticket(20817, "VPN down: Zürich, 40 users", "Acme Corp", "High", **vpn))
    changed = _ticket(20817, "VPN down: Zürich, 40 users", "Acme Corp", "Critical", **vpn)
    _post(halo, {**changed, "event": "ticket updated"})
    _post(halo, changed)
    httpx.post(
        halo,
        content=b'{"event": "new ticket logged",\n "object_id": 1,\n "ticket": {\n  "summary" }}',
        timeout=PATIENCE,
    )
    _post(halo, _ticket(20811, "Backup job failed on fs-02", "Globex", "High", "In Progress"))
    _post(halo, _ticket(20802, "Mail delayed, Globex", "Globex", "Medium", "Closed"))
    orders: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
        ("printer", "assign", {"user": "bob"}),
        ("certificate", "hold", {"for": "20h"}),
        ("disk", "acknowledge", {}),
    )
    for name, command, body in orders:
        _command(url, desk, numbers[name], command, body)
    return numbers


def session(url: str, username: str) -> dict[str, str]:
    """The cookies of a browser in which one of the people is signed in."""
    with httpx.Client(base_url=url, follow_redirects=True, timeout=PATIENCE) as client:
        client.get("/account/login/")
        form = {"csrfmiddlewaretoken": client.cookies["tocsin_csrf"], "login": username, "password": PASSWORD}
        client.post("/account/login/", data=form, headers={"Origin": url}).raise_for_status()
        return dict(client.cookies)


def _problem(number: str, subject: str, priority: str) -> dict[str, Any]:
    return {"id": number, "status": "firing", "subject": subject, "priority": priority}


def _ticket(number: int, summary: str, client: str, priority: str, status: str = "New", **more: Any) -> dict[str, Any]:
    event = "new ticket logged" if status == "New" else "ticket status changed"
    ticket = {
        "id": number, "summary": summary, "client_name": client, "priority": {"name": priority},
        "status": {"name": status}, **more,
    }  # fmt: skip
    return {"event": event, "object_id": number, "ticket": ticket}


def _alert(address: str, body: Mapping[str, Any]) -> int:
    answer = _post(address, body)
    assert answer["status"] == "Mapped Opened", answer
    return int(answer["alert_id"])


def _post(address: str, body: Mapping[str, Any]) -> dict[str, Any]:
    response = httpx.post(
        address, content=json.dumps(body), headers={"Content-Type": "application/json"}, timeout=PATIENCE
    )
    # Behind the first page's own work on the alert, a message may have to wait a moment: it is decided in order.
    assert response.status_code in (200, 202), response.text
    found_body: dict[str, Any] = response.json()
    return found_body


def _command(url: str, desk: ServiceDesk, number: int, command: str, body: Mapping[str, Any]) -> None:
    response = httpx.post(
        f"{url}/api/v1/alerts/{number}/{command}",
        json=dict(body),
        headers={"Authorization": f"Bearer {desk.token}"},
        timeout=PATIENCE,
    )
    assert response.status_code == 200, response.text
