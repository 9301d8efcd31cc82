"""Grafana OnCall's HTTP API on loopback: an installation with the responses that its reference shows.

After https://grafana.com/docs/oncall/latest/oncall-api-reference/.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.doubles.http import HttpDouble, Request, Response, http_double

KEY = "2c4a1e9b8d7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b"

type Document = dict[str, Any]


def user(number: str, email: str, role: str = "user", zone: str = "Europe/Zurich", *teams: str) -> Document:
    return {
        "id": number,
        "grafana_id": 1,
        "email": email,
        "slack": [{"user_id": "UALEXSLACKDJPK", "team_id": "TALEXSLACKDJPK"}],
        "username": email.partition("@")[0],
        "role": role,
        "timezone": zone,
        "teams": list(teams),
        "is_phone_number_verified": True,
    }


def rolling(number: str, name: str, users: list[list[str]], start: str, seconds: int, **rest: Any) -> Document:
    return {
        "id": number,
        "team_id": None,
        "name": name,
        "type": "rolling_users",
        "time_zone": None,
        "level": 0,
        "start": start,
        "rotation_start": start,
        "duration": seconds,
        "frequency": "weekly",
        "interval": 1,
        "week_start": "MO",
        "by_day": None,
        "by_month": None,
        "by_monthday": None,
        "until": None,
        "rolling_users": users,
        "start_rotation_from_user_index": 0,
        **rest,
    }


USERS = [
    user("UALICE", "alice@example.org", "admin", "Europe/Zurich", "T1"),
    user("UBOB", "bob@example.org", "user", "America/Chicago", "T1"),
    user("UCAROL", "carol@example.org", "viewer", ""),
]
TEAMS = [{"id": "T1", "name": "SRE", "email": None, "avatar_url": "/avatar/x"}]
SHIFTS = [
    rolling("O1", "Weekly", [["UALICE"], ["UBOB"]], "2026-01-05T09:00:00", 604_800),
    rolling(
        "O2", "Pairs on week days", [["UBOB", "UCAROL"], ["UALICE"], ["UGONE"]], "2026-01-07T18:00:00", 50_400,
        level=2, by_day=["MO", "WE", "SU"], week_start="SU", start_rotation_from_user_index=1,
    ),
    rolling("O3", "Every third day", [["UCAROL"], ["UALICE"]], "2026-01-05T12:00:00", 7_200,
            frequency="daily", interval=3, level=1, time_zone="America/New_York"),
    {
        **rolling("O4", "Office", [], "2026-01-05T08:00:00", 32_400, level=3, by_day=["TU", "TH"]),
        "type": "recurrent_event", "users": ["UBOB", "UALICE"], "until": "2026-12-15T07:00:00",
    },
    {"id": "O5", "name": "Migration night", "type": "single_event", "time_zone": None, "level": 4,
     "start": "2026-12-05T20:00:00", "duration": 36_000, "users": ["UCAROL"]},
    {"id": "O6", "name": "Swap", "type": "override", "time_zone": None,
     "start": "2026-12-08T10:00:00", "duration": 86_400, "users": ["UBOB"]},
    {**rolling("O7", "Paydays", [["UALICE"]], "2026-01-01T00:00:00", 3_600), "frequency": "monthly"},
]  # fmt: skip
SCHEDULES = [
    {
        "id": "S1", "team_id": "T1", "name": "SRE/Primary", "type": "web", "time_zone": "Europe/Zurich",
        "slack": {"channel_id": None, "user_group_id": None}, "on_call_now": [],
        "shifts": ["O1", "O2", "O3", "O4", "O5", "O6", "O7"],
    },
    {
        "id": "S2", "team_id": None, "name": "From a calendar", "type": "ical", "ical_url_primary": "https://calendar.example.org/secret-path.ics",
        "ical_url_overrides": None, "on_call_now": [], "slack": {},
    },
]  # fmt: skip
CHAINS = [{"id": "F1", "name": "default", "team_id": "T1"}, {"id": "F2", "name": "slack only", "team_id": None}]


def policy(number: int, kind: str, chain: str = "F1", **rest: Any) -> Document:
    return {"id": f"E{chain}{number}", "escalation_chain_id": chain, "position": number, "type": kind, **rest}


POLICIES = [
    policy(5, "notify_person_next_each_time", persons_to_notify_next_each_time=["UALICE", "UBOB"]),
    policy(0, "notify_on_call_from_schedule", notify_on_call_from_schedule="S1", important=True),
    policy(1, "wait", duration=300),
    policy(2, "notify_if_time_from_to", notify_if_time_from="08:00:00Z", notify_if_time_to="18:00:00Z"),
    policy(3, "notify_persons", persons_to_notify=["UBOB", "UGONE"], important=False),
    policy(4, "wait", duration=900),
    policy(6, "wait", duration=60),
    policy(7, "repeat_escalation"),
    policy(0, "notify_whole_channel", "F2"),
]
INTEGRATIONS = [
    {
        "id": "CFRPV98RPR1U8", "name": "Prometheus", "team_id": "T1", "type": "alertmanager",
        "link": "https://oncall.example.org/integrations/v1/alertmanager/mReAoNwDm0eMwKo1mTeTwYo/",
        "default_route": {"id": "RVBE4RKQSCGJ2", "escalation_chain_id": "F1"},
    },
    {
        "id": "C2", "name": "Anything", "team_id": None, "type": "webhook", "link": "https://x/secret-link/",
        "default_route": {"id": "R3", "escalation_chain_id": None},
    },
    {"id": "C3", "name": "Manual setup", "team_id": None, "type": "direct_paging", "default_route": {"id": "R9"}},
]  # fmt: skip
ROUTES = [
    {
        "id": "RIYGUJXCPFHXY", "integration_id": "CFRPV98RPR1U8", "escalation_chain_id": "F1", "position": 0,
        "routing_type": "jinja2", "routing_regex": '{{ payload.commonLabels.severity == "critical" }}',
        "is_the_last_route": False,
    },
    {"id": "RVBE4RKQSCGJ2", "integration_id": "CFRPV98RPR1U8", "escalation_chain_id": "F1", "position": 1,
     "routing_regex": None, "is_the_last_route": True},
]  # fmt: skip
RULES = [
    {"id": "N1", "user_id": "UALICE", "position": 0, "important": False, "type": "notify_by_phone_call"},
    {"id": "N2", "user_id": "UALICE", "position": 1, "important": False, "type": "wait", "duration": 300},
    {"id": "N3", "user_id": "UALICE", "position": 2, "important": False, "type": "notify_by_email"},
    {"id": "N4", "user_id": "UALICE", "position": 0, "important": True, "type": "notify_by_email"},
]


def documents() -> dict[str, list[Document]]:
    """The installation as it is fetched, without the network."""
    return {
        "users": USERS,
        "teams": TEAMS,
        "on_call_shifts": SHIFTS,
        "schedules": SCHEDULES,
        "escalation_chains": CHAINS,
        "escalation_policies": POLICIES,
        "integrations": INTEGRATIONS,
        "routes": ROUTES,
        "personal_notification_rules": RULES,
        "webhooks": [{"id": "W1", "name": "Status page"}],
        "not_shown": [],
    }


@dataclass
class OnCallDouble:
    """Answers pages of two, and calls itself by another name in `next`, as an OnCall behind a proxy does."""

    http: HttpDouble
    refusals: list[Response] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.http.url

    def answer(self, request: Request) -> Response:
        if self.refusals:
            return self.refusals.pop(0)
        if request.headers.get("authorization") != KEY:
            return _json(403, {"detail": "Invalid token."})
        parts = urlsplit(request.path)
        kind = parts.path.removeprefix("/api/v1/").strip("/")
        results = documents().get(kind)
        if results is None or not parts.path.startswith("/api/v1/"):
            return _json(404, {"detail": "Not found."})
        page = int(parse_qs(parts.query).get("page", ["1"])[0])
        has_more = page * 2 < len(results)
        following = f"http://oncall.internal/api/v1/{kind}/?page={page + 1}" if has_more else None
        body = {"count": len(results), "next": following, "previous": None, "results": results[page * 2 - 2 : page * 2]}
        return _json(200, {**body, "current_page_number": page, "page_size": 2})


def _json(status: int, body: object) -> Response:
    return Response(status, json.dumps(body).encode())


@contextmanager
def oncall_double() -> Iterator[OnCallDouble]:
    """A running server."""
    with http_double() as http:
        double = OnCallDouble(http)
        http.answering = double.answer
        yield double
