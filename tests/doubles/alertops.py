"""AlertOps' API v2 on loopback: an account in the shapes of its Swagger description and its Terraform provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.doubles.http import HttpDouble, Request, Response, http_double

KEY = "5f0c1b7e-1c1d-4c43-9d6e-0a5c3f7b2a11"
CENTRAL = "(UTC-06:00) Central Time (US & Canada)"

type Document = dict[str, Any]


def method(label: str, sequence: int, **rest: Any) -> Document:
    return {
        "contact_method_name": label, "email": None, "phone": None, "sms": None, "wait_time_in_mins": 0,
        "repeat": False, "repeat_times": 0, "repeat_minutes": 0, "notification_time24x7": True, "enabled": True,
        "sequence": sequence, **rest,
    }  # fmt: skip


def user(number: int, name: str, email: str, *methods: Document, roles: tuple[str, ...] = ("Basic",)) -> Document:
    official = method("Email-Official", 1, email={"email_address": email})
    return {
        "user_id": number, "user_name": name, "first_name": name.title(), "last_name": "Example",
        "time_zone": CENTRAL, "type": "Standard", "roles": list(roles), "contact_methods": [official, *methods],
    }  # fmt: skip


USERS = [
    user(1, "alice", "alice@example.org",
         method("SMS-Official", 2, sms={"country_code": "41", "phone_number": "790000001"}, wait_time_in_mins=5,
                repeat=True, repeat_times=2, repeat_minutes=3),
         method("Push Official", 3), roles=("Owner",)),
    user(2, "bob", "bob@example.org",
         method("Phone-Official-Mobile", 2, phone={"country_code": "1", "phone_number": "3125550142"})),
    user(3, "carol", "carol@example.org"),
]  # fmt: skip


def time(date: str | None, hour: int, minute: int = 0) -> Document:
    return {"date": date, "hour": hour, "minute": minute}


WORK = {"sun": False, "mon": True, "tue": True, "wed": True, "thu": True, "fri": True, "sat": False}


def shift(name: str, kind: str, start: Document, end: Document, **rest: Any) -> Document:
    return {
        "group": "SRE", "schedule_name": name, "schedule_type": kind, "continuous": False, "time_zone": CENTRAL,
        "start_date": start, "end_date": end, "schedule_weekdays": {}, "enabled": True, "users": [], **rest,
    }  # fmt: skip


SHIFTS = [
    shift("Around the clock", "Rotating", time("2026-01-05", 0), time(None, 0),
          rotate_frequency="weekly",
          rotate_weekly={"every_x_weeks": 1, "rotate_x_users": 1, "rotate_at_time": {"hour": 9, "minute": 0},
                         "rotate_at_day_of_week": "Monday"},
          users=[{"user": "alice", "role": "Primary"}, {"user": "bob", "role": "Secondary"}]),
    shift("Office", "Fixed", time("2026-01-05", 8), time(None, 17, 59), schedule_weekdays=WORK,
          users=[{"user": "carol", "role": "Primary"}]),
    shift("Fair", "Fixed", time("2026-12-07", 0), time("2026-12-08", 0), users=[{"user": "bob", "role": "Primary"}]),
    shift("Long ago", "Fixed", time("2026-01-05", 8), time("2026-02-05", 17),
          users=[{"user": "bob", "role": "Primary"}]),
    shift("Weekend", "Fixed", time("2026-01-05", 17), time(None, 7, 59), continuous=True, start_weekday="Friday",
          end_weekday="Monday", users=[{"user": "gone", "role": "Primary"}]),
]  # fmt: skip
GROUPS = [
    {
        "group_id": 7, "group_name": "SRE", "dynamic": False,
        "members": [
            {"member_type": "User", "member": "alice", "sequence": 2, "roles": ["Primary", "Manager"]},
            {"member_type": "User", "member": "bob", "sequence": 1, "roles": ["Secondary", "Tertiary"]},
            {"member_type": "Group", "member": "Others", "sequence": 3, "roles": ["Primary"]},
        ],
        "contact_methods": [
            {"contact_method_name": "Email-Official", "email_address": "sre@example.org", "sequence": 1},
            {"contact_method_name": "Slack", "url": "https://hooks.slack.com/services/secret", "sequence": 2},
        ],
    }
]  # fmt: skip
POLICIES = [
    {
        "escalation_policy_id": 1, "escalation_policy_name": "Escalate", "priority": "Critical", "enabled": True,
        "wait_time_before_notifying_next_group_in_min": 20, "workflows": [{"workflow_id": 1, "workflow_name": "W"}],
        "member_roles": [
            {"member_role_type": "Primary", "role_wait_time_in_mins": 0, "wait_time_between_members_in_mins": 5,
             "no_of_retries": 5, "retry_interval": 5,
             "contact_methods": [{"contact_method_name": "SMS-Official", "wait_time_in_mins": 1, "repeat": True,
                                  "repeat_times": 2, "repeat_minutes": 3, "sequence": 1}]},
            {"member_role_type": "Secondary", "role_wait_time_in_mins": 15, "wait_time_between_members_in_mins": 0,
             "no_of_retries": 0, "retry_interval": 0, "contact_methods": []},
            {"member_role_type": "Tertiary", "role_wait_time_in_mins": 15},
        ],
    },
    {"escalation_policy_name": "Off", "enabled": False, "member_roles": [{"member_role_type": "Primary"}]},
]  # fmt: skip
INTEGRATIONS = [
    {
        "inbound_integration_id": 1, "inbound_integration_name": "HaloITSM", "type": "API", "enabled": True,
        "escalation_policy": "Escalate", "recipient_groups": ["SRE"], "recipient_users": [], "api_settings": {},
    },
    {
        "inbound_integration_id": 2, "inbound_integration_name": "Custom", "type": "API", "enabled": True,
        "escalation_policy": "Escalate", "recipient_groups": ["SRE"], "recipient_users": ["bob"],
        "api_settings": {
            "url_mapping": {
                "source": "Custom", "source_name": "resource", "source_id": "issue^id",
                "subject": "<description> on <host>", "source_status": "state",
                "open_alert_when": {"field_name": "state", "type": "contains", "values": ["open", "critical"]},
                "close_alert_when": {"type": "equals", "values": ["closed"]},
            },
            "add_all_filter": {"filters": [
                {"filter_id": 1, "condition": {"field_name": "env", "type": "equals", "value": "test"}, "not": True},
            ]},
        },
    },
    {"inbound_integration_name": "Beat", "type": "Heartbeat", "enabled": False, "escalation_policy": "Off"},
]  # fmt: skip


def documents() -> dict[str, list[Document]]:
    """The account as it is fetched, without the network."""
    return {
        "users": USERS,
        "groups": [{**GROUPS[0], "schedules": SHIFTS}],
        "escalation_policies": POLICIES,
        "integrations": INTEGRATIONS,
        "workflows": [{"workflow_name": "W", "name": "W"}],
        "not_shown": [],
    }


@dataclass
class AlertOpsDouble:
    """`refusals` are given to the next requests instead of the answer."""

    http: HttpDouble
    refusals: list[Response] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.http.url

    def answer(self, request: Request) -> Response:
        if self.refusals:
            return self.refusals.pop(0)
        if request.headers.get("api-key") != KEY:
            return _json(401, {"errors": "Invalid API Key"})
        parts = urlsplit(request.path)
        query = parse_qs(parts.query)
        lists: dict[str, tuple[str, list[Any]]] = {
            "/api/v2/users": ("users", USERS),
            "/api/v2/groups": ("groups", GROUPS),
            "/api/v2/schedules/7": ("schedules", SHIFTS),
            "/api/v2/escalation_policies": ("escalation_policies", POLICIES),
            "/api/v2/integrations/inbound": ("inbound_integrations", INTEGRATIONS),
            "/api/v2/workflows": ("workflows", [{"workflow_name": "W", "name": "W"}]),
        }
        if parts.path not in lists:
            return _json(404, {"errors": "Not found"})
        key, results = lists[parts.path]
        limit, offset = int(query["limit"][0]), int(query["offset"][0])
        return _json(200, {"limit": limit, "offset": offset, key: results[offset : offset + limit]})


def _json(status: int, body: object) -> Response:
    return Response(status, json.dumps(body).encode())


@contextmanager
def alertops_double() -> Iterator[AlertOpsDouble]:
    """A running server."""
    with http_double() as http:
        double = AlertOpsDouble(http)
        http.answering = double.answer
        yield double
