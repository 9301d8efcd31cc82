"""Opening an alert manually. The body names the recipients; the timeline records who opened the alert and why."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Schema
from pydantic import Field

from tocsin.access.roles import Permission
from tocsin.alerts.service import find_alert
from tocsin.alerts.states import Priority
from tocsin.api.alerts.alerts import AlertDetail, routes, show_detail
from tocsin.api.framework.auth import actor_of, caller, via_of
from tocsin.api.framework.simulation_schemas import SimulatedRunResponse
from tocsin.escalation.actions.manual_alerts import ManualAlert, open_alert
from tocsin.escalation.models import Policy
from tocsin.inbound.expressions.fields import CUSTOM_LENGTH, FIELDS, MAX_CUSTOM, MAX_TAGS, TAG_LENGTH
from tocsin.people.models import User
from tocsin.resources import registry
from tocsin.resources.lookup import find_named
from tocsin.simulate import report
from tocsin.simulate.manual_alert import preview


def _max_length(field: str) -> int:
    return FIELDS[field].length


class RecipientsBody(Schema):
    """Users who are paged when the first step fires, and groups in which the policy's roles are resolved."""

    model_config = {"extra": "forbid"}

    users: list[str] = Field(default=[], max_length=50)
    groups: list[str] = Field(default=[], max_length=50)


class NewAlertBody(Schema):
    """An alert that is opened manually. Without a policy and without recipient users no one is paged."""

    model_config = {"extra": "forbid", "str_strip_whitespace": True}

    subject: str = Field(min_length=1, max_length=_max_length("subject"))
    priority: Priority | None = Field(default=None, description="Else the policy's default, else high.")
    short_text: str = Field(default="", max_length=_max_length("short_text"), description="For SMS and voice.")
    long_text: str = Field(default="", max_length=_max_length("long_text"), description="For email.")
    source_url: str = Field(default="", max_length=_max_length("source_url"), pattern=r"^(https?://\S+)?$")
    client: str = Field(default="", max_length=_max_length("client"))
    site: str = Field(default="", max_length=_max_length("site"))
    requester: str = Field(default="", max_length=_max_length("requester"))
    requester_phone: str = Field(default="", max_length=_max_length("requester_phone"))
    tags: dict[str, str] = Field(default={}, max_length=MAX_TAGS)
    custom: dict[str, str] = Field(default={}, max_length=MAX_CUSTOM)
    escalation_policy: str | None = Field(default=None, description="A policy's name or number.")
    recipients: RecipientsBody = RecipientsBody()
    note: str = Field(default="", max_length=2000)


EXAMPLE = {
    "subject": "VPN down at Acme",
    "priority": "critical",
    "escalation_policy": "Standard",
    "recipients": {"groups": ["Service Desk"]},
}


@routes.post(
    "",
    Permission.RESPOND,
    status=201,
    answers=AlertDetail,
    summary="Create an alert",
    extra={"requestBody": {"content": {"application/json": {"example": EXAMPLE}}}},
)
def create_alert(request: HttpRequest, body: NewAlertBody) -> dict[str, Any]:
    principal = caller(request)
    alert_id = open_alert(
        _manual_alert(body),
        actor=actor_of(principal),
        username=principal.user.username,
        via=via_of(principal),
        now=principal.now,
    )
    return show_detail(find_alert(alert_id).row, principal.now)


@routes.post(
    "/preview",
    Permission.RESPOND,
    answers=SimulatedRunResponse,
    summary="Whom a new alert would page: a dry run",
    extra={"requestBody": {"content": {"application/json": {"example": EXAMPLE}}}},
)
def preview_alert(request: HttpRequest, body: NewAlertBody) -> dict[str, Any]:
    """Nothing is stored or sent. `pages` contains every page with its minutes after the opening, `timeline` the entries
    that the alert's timeline would have, and `notes` further remarks."""
    principal = caller(request)
    return report.run_as_json(preview(_manual_alert(body), principal.now), principal.viewer.address)


def _manual_alert(body: NewAlertBody) -> ManualAlert:
    users = tuple(
        find_named(
            User.objects.filter(is_active=True),
            name,
            label="active user",
            field=f"recipients.users[{n}]",
            name_column="username",
        ).pk
        for n, name in enumerate(body.recipients.users)
    )
    groups = tuple(
        registry.GROUPS.resolve(name, f"recipients.groups[{n}]").pk for n, name in enumerate(body.recipients.groups)
    )
    return ManualAlert(
        subject=body.subject,
        priority=body.priority,
        policy=_policy(body),
        user_ids=users,
        group_ids=groups,
        columns={name: getattr(body, name) for name in _COLUMNS},
        tags={name: text[:TAG_LENGTH] for name, text in body.tags.items()},
        custom={name: text[:CUSTOM_LENGTH] for name, text in body.custom.items()},
        note=body.note,
    )


_COLUMNS = ("short_text", "long_text", "source_url", "client", "site", "requester", "requester_phone")


def _policy(body: NewAlertBody) -> Policy | None:
    if body.escalation_policy is None:
        return None
    rows = Policy.objects.select_related("current_version")
    return find_named(rows, body.escalation_policy, label="escalation policy", field="escalation_policy")
