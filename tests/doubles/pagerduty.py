"""PagerDuty's REST API v2 on loopback: an account with the responses that its reference shows.

After https://developer.pagerduty.com/api-reference/: users, teams, schedules, overrides, escalation policies, services.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.doubles.http import HttpDouble, Request, Response, http_double

KEY = "y_NbAkKc66ryYTWUXYEu"
SENDER_KEY = "e93facc04764012d7bfb002500d5d1a6"

type Document = dict[str, Any]


def reference(kind: str, number: str, summary: str) -> Document:
    return {"id": number, "type": f"{kind}_reference", "summary": summary, "html_url": f"https://x/{number}"}


def method(number: str, kind: str, address: str, country: int | None = None) -> Document:
    more = {"country_code": country, "blacklisted": False} if country else {}
    return {
        "id": number,
        "type": f"{kind}_contact_method",
        "summary": "Work",
        "label": "Work",
        "address": address,
        **more,
    }


def notification(number: str, kind: str, minutes: int, urgency: str = "high") -> Document:
    return {
        "id": f"R{number}{minutes}",
        "type": "assignment_notification_rule",
        "start_delay_in_minutes": minutes,
        "contact_method": {"id": number, "type": f"{kind}_contact_method_reference"},
        "urgency": urgency,
    }


USERS = [
    {
        "id": "PALICE1",
        "type": "user",
        "name": "Alice Andersson",
        "email": "alice@example.org",
        "time_zone": "Europe/Zurich",
        "role": "owner",
        "contact_methods": [
            method("PA1", "email", "alice@example.org"),
            method("PA2", "phone", "790000001", 41),
            method("PA3", "sms", "790000001", 41),
            method("PA4", "push_notification", "token"),
        ],
        "notification_rules": [
            notification("PA3", "sms", 0),
            notification("PA2", "phone", 3),
            notification("PA2", "phone", 5),
            notification("PA2", "phone", 12),
            notification("PA1", "email", 0, "low"),
        ],
        "teams": [],
    },
    {
        "id": "PBOB001",
        "type": "user",
        "name": "Bob Brown",
        "email": "bob@example.org",
        "time_zone": "America/Chicago",
        "role": "limited_user",
        "contact_methods": [method("PB1", "email", "bob@example.org"), method("PB2", "phone", "3125550142", 1)],
        "notification_rules": [notification("PB2", "phone", 1)],
        "teams": [],
    },
    {
        "id": "PCAROL1",
        "type": "user",
        "name": "Carol Clark",
        "email": "carol@example.org",
        "time_zone": "Eastern Time (US & Canada)",
        "role": "read_only_user",
        "contact_methods": [],
        "notification_rules": [],
        "teams": [],
    },
]
ALICE, BOB, CAROL = (reference("user", one["id"], one["name"]) for one in USERS)
GONE = reference("user", "PGONE99", "Dave Gone")
TEAM = reference("team", "PTEAM01", "Platform")
TEAMS = [{"id": "PTEAM01", "type": "team", "name": "Platform", "description": "Runs it"}]
MEMBERS = [
    {"user": ALICE, "role": "manager"},
    {"user": BOB, "role": "responder"},
    {"user": CAROL, "role": "observer"},
]


def layer(number: int, users: list[Document], turn: int, virtual: str, **rest: Any) -> Document:
    return {
        "id": f"PL{number}",
        "name": f"Layer {number}",
        "start": "2026-01-05T09:00:00-05:00",
        "end": None,
        "rotation_virtual_start": virtual,
        "rotation_turn_length_seconds": turn,
        "users": [{"user": user} for user in users],
        "restrictions": [],
        **rest,
    }


def weekly(day: int, at: str, seconds: int) -> Document:
    return {
        "type": "weekly_restriction", "start_day_of_week": day, "start_time_of_day": at, "duration_seconds": seconds,
    }  # fmt: skip


def inbound(number: str, kind: str, name: str, **more: Any) -> Document:
    return {"id": number, "type": f"{kind}_inbound_integration", "name": name, **more}


#: The highest layer first, as the API gives them.
LAYERS = [
    layer(
        4, [ALICE, BOB], 604_800, "2026-11-30T17:00:00-05:00",
        start="2026-12-10T12:00:00-05:00", end="2026-12-19T08:00:00-05:00",
        restrictions=[{"type": "daily_restriction", "start_time_of_day": "22:00:00", "duration_seconds": 21_600}],
    ),
    layer(
        3, [CAROL, BOB], 86_400, "2026-01-05T17:00:00-05:00",
        restrictions=[
            weekly(5, "17:00:00", 140_400),
            weekly(3, "12:30:00", 3_600),
        ],
    ),
    layer(2, [GONE, CAROL], 86_400, "2026-01-05T09:00:00-05:00",
          restrictions=[{"type": "daily_restriction", "start_time_of_day": "09:00:00", "duration_seconds": 28_800}]),
    layer(1, [ALICE, BOB, ALICE, CAROL], 604_800, "2026-01-05T09:00:00-05:00"),
    layer(0, [CAROL], 604_800, "2025-01-05T09:00:00-05:00", name="Ended", end="2025-06-05T09:00:00-05:00"),
]  # fmt: skip
SCHEDULES = [
    {
        "id": "PSCHED1",
        "type": "schedule",
        "summary": "Primary/24x7",
        "name": "Primary/24x7",
        "time_zone": "America/New_York",
        "teams": [TEAM],
        "schedule_layers": LAYERS,
    },
    {
        "id": "PSCHED2",
        "type": "schedule",
        "name": "Nobody's",
        "time_zone": "America/New_York",
        "teams": [],
        "schedule_layers": [layer(1, [GONE], 604_800, "2026-01-05T09:00:00-05:00")],
    },
    {
        "id": "PSCHED3",
        "type": "schedule",
        "name": "Backup",
        "time_zone": "UTC",
        "teams": [],
        "schedule_layers": [layer(1, [BOB], 604_800, "2026-01-05T09:00:00-05:00")],
    },
]
OVERRIDES = [
    {"id": "PO1", "start": "2026-12-01T00:00:00-05:00", "end": "2026-12-02T12:00:00-05:00", "user": CAROL},
    {"id": "PO2", "start": "2026-12-22T00:00:00-05:00", "end": "2026-12-23T00:00:00-05:00", "user": GONE},
]


def level(minutes: int, *targets: Document, strategy: str = "assign_to_everyone") -> Document:
    return {
        "id": f"PE{minutes}",
        "escalation_delay_in_minutes": minutes,
        "targets": list(targets),
        "escalation_rule_assignment_strategy": {"type": strategy},
    }


PRIMARY = reference("schedule", "PSCHED1", "Primary/24x7")
POLICIES = [
    {
        "id": "PPOL001",
        "type": "escalation_policy",
        "name": "Standard",
        "num_loops": 3,
        "teams": [TEAM],
        "escalation_rules": [
            level(5, PRIMARY),
            level(10, reference("schedule", "PSCHED2", "Nobody's")),
            level(30, ALICE, BOB, strategy="round_robin"),
        ],
    },
    {
        "id": "PPOL002", "type": "escalation_policy", "name": "Ghosts", "num_loops": 0, "teams": [],
        "escalation_rules": [level(30, GONE)],
    },
]  # fmt: skip
SERVICES = [
    {
        "id": "PSVC001",
        "type": "service",
        "name": "Shop",
        "status": "active",
        "auto_resolve_timeout": 14_400,
        "acknowledgement_timeout": 600,
        "escalation_policy": reference("escalation_policy", "PPOL001", "Standard"),
        "teams": [TEAM],
        "incident_urgency_rule": {"type": "constant", "urgency": "high"},
        "integrations": [
            inbound("PI1", "events_api_v2", "Events API V2", integration_key=SENDER_KEY),
            inbound("PI2", "generic_email", "Email", integration_email="shop@x.pagerduty.com"),
            inbound("PI3", "event_transformer_api", "Datadog", vendor={"summary": "Datadog"}),
        ],
    },
    {
        "id": "PSVC002",
        "type": "service",
        "name": "Nightly",
        "status": "disabled",
        "auto_resolve_timeout": None,
        "acknowledgement_timeout": None,
        "escalation_policy": reference("escalation_policy", "PPOL002", "Ghosts"),
        "teams": [],
        "incident_urgency_rule": {
            "type": "use_support_hours",
            "during_support_hours": {"type": "constant", "urgency": "high"},
            "outside_support_hours": {"type": "constant", "urgency": "low"},
        },
        "integrations": [],
    },
]  # fmt: skip


#: https://developer.pagerduty.com/api-reference/ (List maintenance windows)
WINDOWS: list[Document] = [
    {
        "id": "PMW0001",
        "type": "maintenance_window",
        "summary": "Patch night",
        "description": "Patch night",
        "start_time": "2026-12-05T20:00:00-05:00",
        "end_time": "2026-12-05T22:00:00-05:00",
        "services": [reference("service", SERVICES[0]["id"], SERVICES[0]["name"])],
        "teams": [],
    },
    {
        "id": "PMW0002",
        "type": "maintenance_window",
        "summary": "Gone",
        "description": None,
        "start_time": "2026-12-05T20:00:00-05:00",
        "end_time": "2026-12-05T22:00:00-05:00",
        "services": [reference("service", "PNONE", "Gone")],
        "teams": [],
    },
]


def documents() -> dict[str, list[Document]]:
    """The account as it is fetched, without the network."""
    return {
        "users": USERS,
        "teams": [{**TEAMS[0], "members": MEMBERS}],
        "schedules": [{**one, "overrides": OVERRIDES if one["id"] == "PSCHED1" else []} for one in SCHEDULES],
        "escalation_policies": POLICIES,
        "services": SERVICES,
        "maintenance_windows": WINDOWS,
        "orchestrations": [{"id": "o1", "name": "Global routing"}],
        "rulesets": [],
        "business_services": [],
        "not_shown": [],
    }


@dataclass
class PagerDutyDouble:
    """Answers pages of two; `refusals` are given to the next requests instead."""

    http: HttpDouble
    refusals: list[Response] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.http.url

    def answer(self, request: Request) -> Response:
        if self.refusals:
            return self.refusals.pop(0)
        if request.headers.get("authorization") != f"Token token={KEY}" or "version=2" not in request.headers["accept"]:
            return _json(401, {"error": {"message": "Unauthorized", "code": 2006}})
        parts = urlsplit(request.path)
        query = parse_qs(parts.query)
        return self._data(parts.path.strip("/").split("/"), query)

    def _data(self, path: list[str], query: dict[str, list[str]]) -> Response:
        included = set(query.get("include[]", []))
        match path:
            case ["users"]:
                hidden = {"contact_methods", "notification_rules"} - included
                return _page("users", [{k: v for k, v in one.items() if k not in hidden} for one in USERS], query)
            case ["teams"]:
                return _page("teams", TEAMS, query)
            case ["teams", _, "members"]:
                return _page("members", MEMBERS, query)
            case ["schedules"]:
                return _page(
                    "schedules", [{k: v for k, v in s.items() if k != "schedule_layers"} for s in SCHEDULES], query
                )
            case ["schedules", number]:
                return _json(200, {"schedule": next(one for one in SCHEDULES if one["id"] == number)})
            case ["schedules", number, "overrides"]:
                results = OVERRIDES if number == "PSCHED1" and query["since"] and query["until"] else []
                return _json(200, {"overrides": results})
            case ["escalation_policies"]:
                return _page("escalation_policies", POLICIES, query)
            case ["services"]:
                hidden = {"integrations"} - included
                return _page("services", [{k: v for k, v in one.items() if k not in hidden} for one in SERVICES], query)
            case ["event_orchestrations"]:
                return _json(200, {"orchestrations": [{"id": "o1", "name": "Global routing"}]})
            case ["rulesets"]:
                return _json(402, {"error": {"message": "Account does not have the required abilities", "code": 2010}})
            case ["maintenance_windows"]:
                return _page(path[0], WINDOWS if query.get("filter") == ["open"] else [], query)
            case ["business_services"]:
                return _page(path[0], [], query)
        return _json(404, {"error": {"message": "Not Found", "code": 2100}})


def _page(key: str, found: list[Any], query: dict[str, list[str]]) -> Response:
    offset = int(query.get("offset", ["0"])[0])
    more = offset + 2 < len(found)
    return _json(200, {key: found[offset : offset + 2], "limit": 2, "offset": offset, "more": more, "total": None})


def _json(status: int, body: object) -> Response:
    return Response(status, json.dumps(body).encode())


@contextmanager
def pagerduty_double() -> Iterator[PagerDutyDouble]:
    """A running server."""
    with http_double() as http:
        double = PagerDutyDouble(http)
        http.answering = double.answer
        yield double
