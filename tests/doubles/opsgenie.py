"""Opsgenie's REST API on loopback: an account with the responses that its documentation shows.

After https://docs.opsgenie.com/docs/api-overview: user, contact, notification rule, team, team routing rule, schedule,
schedule override, escalation, integration, heartbeat and forwarding rule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.doubles.http import HttpDouble, Request, Response, http_double

KEY = "eb243592-faa2-4ba2-a551-1afdf565c889"
SENDER_KEY = "11111111-2222-4333-8444-555555555555"

type Document = dict[str, Any]


def user(number: int, email: str, name: str, role: str = "User", zone: str = "Europe/Zurich") -> Document:
    return {
        "blocked": False,
        "verified": True,
        "id": f"b5b92115-bfe7-43eb-8c2a-e467f2e5ddc{number}",
        "username": email,
        "fullName": name,
        "role": {"id": role, "name": role},
        "timeZone": zone,
        "locale": "en_US",
        "createdAt": "2017-05-12T08:34:30.283Z",
    }


USERS = [
    user(1, "alice@example.org", "Alice Andersson", "Owner"),
    user(2, "bob@example.org", "Bob Brown", "User", "America/Chicago"),
    user(3, "carol@example.org", "Carol Clark", "Stakeholder"),
    user(4, "bob@example.com", "Bob the Other", "Night crew", "Mars/Olympus"),
]
ALICE, BOB, CAROL, OTHER = ({"type": "user", "id": one["id"], "username": one["username"]} for one in USERS)
TEAM = {"id": "90098alp9-f0e3-41d3-a060-0ea895027630", "name": "Ops/Night"}


def contact(number: int, method: str, to: str, enabled: bool = True) -> Document:
    return {"id": f"c{number}", "method": method, "to": to, "status": {"enabled": enabled}, "applyOrder": number}


def step(method: str, to: str, minutes: int) -> Document:
    return {
        "id": f"s-{method}-{minutes}",
        "contact": {"method": method, "to": to},
        "sendAfter": {"timeAmount": minutes, "timeUnit": "minutes"},
        "enabled": True,
    }


CONTACTS = {
    USERS[0]["id"]: [
        contact(0, "email", "alice@example.org"),
        contact(1, "sms", "41-790000001"),
        contact(2, "voice", "41-790000001"),
        contact(3, "mobile", "Alice's phone"),
    ],
    USERS[1]["id"]: [contact(0, "email", "bob@example.org"), contact(1, "sms", "1-3125550142")],
    USERS[3]["id"]: [contact(0, "sms", "1-12")],
}
RULES = {
    USERS[0]["id"]: {
        "id": "3f5a8a5a",
        "name": "New Alert",
        "actionType": "create-alert",
        "order": 1,
        "enabled": True,
        "criteria": {"type": "match-all"},
        "steps": [
            step("email", "alice@example.org", 0),
            step("sms", "41-790000001", 1),
            step("sms", "41-790000001", 11),
            step("sms", "41-790000001", 21),
            step("voice", "41-790000001", 5),
        ],
        "repeat": {"loopAfter": 0, "enabled": False},
    },
}
WEEKLY = {
    "id": "fcbb5a26",
    "name": "First line",
    "startDate": "2026-01-05T08:00:00Z",
    "type": "weekly",
    "length": 1,
    "participants": [ALICE, BOB],
}
NIGHTS = {
    "id": "1d3a4c2e",
    "name": "Nights",
    "startDate": "2026-01-05T17:00:00Z",
    "type": "daily",
    "length": 1,
    "participants": [ALICE, CAROL, ALICE, {"type": "none"}, BOB],
    "timeRestriction": {
        "type": "weekday-and-time-of-day",
        "restrictions": [
            {"startDay": "monday", "startHour": 18, "startMin": 0, "endDay": "tuesday", "endHour": 8, "endMin": 0},
            {"startDay": "friday", "startHour": 17, "startMin": 30, "endDay": "monday", "endHour": 8, "endMin": 0},
        ],
    },
}
OFFICE = {
    "id": "77777777",
    "name": "Office",
    "startDate": "2026-01-05T07:00:00Z",
    "endDate": "2026-12-10T17:00:00Z",
    "type": "hourly",
    "length": 12,
    "participants": [BOB, CAROL],
    "timeRestriction": {
        "type": "time-of-day",
        "restriction": {"startHour": 8, "startMin": 0, "endHour": 18, "endMin": 30},
    },
}
SCHEDULE = {
    "id": "d875e654-9b4e-4219-a803-0c26936d18de",
    "name": "ops_schedule",
    "description": "",
    "timezone": "Europe/Zurich",
    "enabled": True,
    "ownerTeam": TEAM,
    "rotations": [WEEKLY, NIGHTS, OFFICE],
}
GLOBAL = {
    "id": "2fe5c4d3",
    "name": "global_schedule",
    "timezone": "America/Chicago",
    "enabled": True,
    "rotations": [
        {**WEEKLY, "id": "9", "name": "Solo", "participants": [BOB]},
        {**WEEKLY, "id": "10", "name": "Teams", "participants": [{"type": "team", **TEAM}]},
    ],
}
OFF = {"id": "0ff", "name": "old_schedule", "timezone": "UTC", "enabled": False, "rotations": [WEEKLY]}
OVERRIDES = [
    {
        "alias": "all",
        "user": CAROL,
        "startDate": "2026-12-01T08:00:00Z",
        "endDate": "2026-12-02T20:00:00Z",
    },
    {
        "alias": "first line only",
        "user": OTHER,
        "startDate": "2026-12-05T08:00:00Z",
        "endDate": "2026-12-06T20:00:00Z",
        "rotations": [{"id": WEEKLY["id"], "name": WEEKLY["name"]}],
    },
    {"alias": "over", "user": BOB, "startDate": "2026-02-01T08:00:00Z", "endDate": "2026-02-02T20:00:00Z"},
    {
        "alias": "nobody",
        "user": {"type": "none"},
        "startDate": "2026-12-20T08:00:00Z",
        "endDate": "2026-12-21T08:00:00Z",
    },
]


def rule(minutes: int, recipient: Document, how: str = "default", condition: str = "if-not-acked") -> Document:
    return {
        "condition": condition,
        "notifyType": how,
        "delay": {"timeAmount": minutes, "timeUnit": "minutes"},
        "recipient": recipient,
    }


ON_CALL = {"type": "schedule", "id": SCHEDULE["id"], "name": SCHEDULE["name"]}
ESCALATIONS = [
    {
        "id": "54321",
        "name": "ops_escalation",
        "ownerTeam": TEAM,
        "rules": [
            rule(20, {"type": "team", **TEAM}, "admins"),
            rule(5, ON_CALL),
            rule(5, BOB),
            rule(30, {"type": "team", **TEAM}, "all", "if-not-closed"),
        ],
        "repeat": {"waitInterval": 10, "count": 2, "resetRecipientStates": True, "closeAlertAfterAll": True},
    },
    {
        "id": "65432",
        "name": "off_escalation",
        "rules": [rule(0, {"type": "schedule", "id": "0ff", "name": "old_schedule"})],
    },
]
TEAMS = [
    {
        **TEAM,
        "description": "Nights and weekends",
        "members": [
            {"user": {"id": ALICE["id"], "username": ALICE["username"]}, "role": "admin"},
            {"user": {"id": BOB["id"], "username": BOB["username"]}, "role": "user"},
        ],
    }
]
ROUTING = [
    {
        "id": "r1",
        "name": "Low ones",
        "isDefault": False,
        "order": 0,
        "criteria": {
            "type": "match-any-condition",
            "conditions": [{"field": "priority", "not": False, "operation": "equals", "expectedValue": "P5"}],
        },
        "notify": {"type": "none"},
    },
    {
        "id": "r2",
        "name": "Database at night",
        "isDefault": False,
        "order": 1,
        "timezone": "Europe/Zurich",
        "criteria": {
            "type": "match-all-conditions",
            "conditions": [
                {"field": "message", "not": False, "operation": "matches", "expectedValue": "db[0-9]+ .*"},
                {
                    "field": "extra-properties",
                    "key": "env",
                    "not": True,
                    "operation": "equals",
                    "expectedValue": "test",
                },
            ],
        },
        "timeRestriction": {
            "type": "time-of-day",
            "restriction": {"startHour": 18, "startMin": 0, "endHour": 8, "endMin": 0},
        },
        "notify": ON_CALL,
    },
    {
        "id": "r3",
        "name": "By country",
        "isDefault": False,
        "order": 2,
        "criteria": {
            "type": "match-all-conditions",
            "conditions": [{"field": "country", "operation": "equals", "expectedValue": "CH"}],
        },
        "notify": {"type": "none"},
    },
    {
        "id": "r4",
        "name": "Default",
        "isDefault": True,
        "order": 3,
        "criteria": {"type": "match-all"},
        "notify": {"type": "escalation", "id": "54321", "name": "ops_escalation"},
    },
]
INTEGRATIONS = [
    {"id": "i1", "name": "Default API", "enabled": True, "type": "API", "teamId": TEAM["id"], "version": "v2"},
    {"id": "i2", "name": "default api", "enabled": True, "type": "Datadog", "teamId": TEAM["id"], "version": "v2"},
    {"id": "i3", "name": "Mails", "enabled": False, "type": "Email", "version": "v2"},
    {"id": "i4", "name": "Our Slack", "enabled": True, "type": "SlackApp", "version": "v2"},
]
DETAILS = {"i1": {"ownerTeam": TEAM, "isGlobal": False, "responders": [{"type": "team", **TEAM}], "apiKey": SENDER_KEY}}
HEARTBEATS = [
    {"name": "backup", "description": "", "interval": 10, "enabled": True, "intervalUnit": "minutes", "ownerTeam": TEAM}
]
FORWARDINGS = [
    {
        "id": "f1",
        "alias": "holidays",
        "fromUser": {"id": BOB["id"], "username": BOB["username"]},
        "toUser": {"id": ALICE["id"], "username": ALICE["username"]},
        "startDate": "2026-12-24T06:00:00Z",
        "endDate": "2027-01-03T06:00:00Z",
    }
]


#: https://docs.opsgenie.com/docs/maintenance-api
MAINTENANCES: list[Document] = [
    {
        "id": "mnt-1",
        "status": "planned",
        "description": "Patch night",
        "time": {"type": "schedule", "startDate": "2026-12-05T20:00:00Z", "endDate": "2026-12-06T02:00:00Z"},
        "rules": [
            {"state": "disabled", "entity": {"id": INTEGRATIONS[0]["id"], "type": "integration"}},
            {"state": "enabled", "entity": {"id": "p1", "type": "policy"}},
        ],
    },
    {
        "id": "mnt-2",
        "status": "active",
        "description": "Old data center",
        "time": {"type": "indefinitely", "startDate": "2026-11-01T08:00:00Z"},
        "rules": [{"state": "disabled", "entity": {"id": INTEGRATIONS[0]["id"], "type": "integration"}}],
    },
    {
        "id": "mnt-3",
        "status": "planned",
        "description": "Other rules at Christmas",
        "time": {"type": "schedule", "startDate": "2026-12-24T00:00:00Z", "endDate": "2026-12-27T00:00:00Z"},
        "rules": [{"state": "enabled", "entity": {"id": "p1", "type": "policy"}}],
    },
]


def documents() -> dict[str, list[Document]]:
    """The account as it is fetched, without the network."""
    return {
        "users": [
            {
                **one,
                "contacts": CONTACTS.get(one["id"], []),
                "notification_rules": [RULES[one["id"]]] if one["id"] in RULES else [],
            }
            for one in USERS
        ],
        "teams": [{**TEAMS[0], "routing_rules": ROUTING}],
        "schedules": [{**SCHEDULE, "overrides": OVERRIDES}, {**GLOBAL, "overrides": []}, {**OFF, "overrides": []}],
        "escalations": ESCALATIONS,
        "integrations": [{**one, **DETAILS.get(one["id"], {})} for one in INTEGRATIONS],
        "heartbeats": HEARTBEATS,
        "forwardings": FORWARDINGS,
        "maintenances": MAINTENANCES,
        "alert_policies": [{"id": "p1", "name": "Drop test alerts", "type": "alert"}],
        "services": [],
        "not_shown": [],
    }


@dataclass
class OpsgenieDouble:
    """`refusals` are given to the next requests instead of the answer; `forbidden` paths are answered 403."""

    http: HttpDouble
    refusals: list[Response] = field(default_factory=list)
    forbidden: set[str] = field(default_factory=set)
    page: int = 2

    @property
    def url(self) -> str:
        return self.http.url

    def answer(self, request: Request) -> Response:
        if self.refusals:
            return self.refusals.pop(0)
        if request.headers.get("authorization") != f"GenieKey {KEY}":
            return _json(401, {"message": "Could not authenticate", "took": 0.0, "requestId": "r"})
        parts = urlsplit(request.path)
        path, query = parts.path, parse_qs(parts.query)
        if path in self.forbidden:
            return _json(403, {"message": "Api Key is not authorized to access this resource", "requestId": "r"})
        if path == "/v2/users":
            return self._users(int(query.get("offset", ["0"])[0]))
        data = self._data(path, query)
        if data is None:
            return _json(404, {"message": "No such resource", "took": 0.0, "requestId": "r"})
        return _json(200, {"data": data, "took": 0.1, "requestId": "r"})

    def _users(self, offset: int) -> Response:
        following = offset + self.page
        paging = {"first": f"{self.url}/v2/users?limit=2&offset=0"}
        if following < len(USERS):
            paging["next"] = f"{self.url}/v2/users?limit=2&offset={following}"
        body = {"totalCount": len(USERS), "data": USERS[offset:following], "paging": paging, "requestId": "r"}
        return _json(200, body)

    def _data(self, path: str, query: dict[str, list[str]]) -> Any:
        lists: dict[str, Any] = {
            "/v2/teams": [{key: one[key] for key in ("id", "name", "description")} for one in TEAMS],
            "/v2/escalations": ESCALATIONS,
            "/v2/integrations": INTEGRATIONS,
            "/v2/heartbeats": {"heartbeats": HEARTBEATS},
            "/v2/forwarding-rules": FORWARDINGS,
            "/v2/policies/alert": [{"id": "p1", "name": "Drop test alerts", "type": "alert", "enabled": True}],
        }
        if path == "/v1/maintenance":
            assert query == {"type": ["non-expired"]}
            return [{key: value for key, value in one.items() if key != "rules"} for one in MAINTENANCES]
        if path.startswith("/v1/maintenance/"):
            return next((one for one in MAINTENANCES if path.endswith(one["id"])), None)
        if path == "/v2/schedules":
            expanded = query.get("expand") == ["rotation"]
            results = [SCHEDULE, GLOBAL, OFF]
            return results if expanded else [{**one, "rotations": []} for one in results]
        if path in lists:
            return lists[path]
        match re.split("/", path.strip("/"))[1:]:
            case ["users", number, "contacts"]:
                return CONTACTS.get(number, [])
            case ["users", number, "notification-rules"]:
                names = ("id", "name", "actionType", "order", "enabled")
                return [{name: RULES[number][name] for name in names}] if number in RULES else []
            case ["users", number, "notification-rules", _]:
                return RULES.get(number)
            case ["teams", _, "routing-rules"]:
                return ROUTING
            case ["teams", _]:
                return TEAMS[0]
            case ["schedules", number, "overrides"]:
                return OVERRIDES if number == SCHEDULE["id"] else []
            case ["integrations", number]:
                results = next((one for one in INTEGRATIONS if one["id"] == number), None)
                return {**results, **DETAILS.get(number, {})} if results else None
        return None


def _json(status: int, body: object) -> Response:
    return Response(status, json.dumps(body).encode())


@contextmanager
def opsgenie_double() -> Iterator[OpsgenieDouble]:
    """A running server."""
    with http_double() as http:
        double = OpsgenieDouble(http)
        http.answering = double.answer
        yield double
