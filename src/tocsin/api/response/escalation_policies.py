"""Escalation policies: whom to page in which order, after which delays, and what stops the escalation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import Field

from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.alerts.states import Priority
from tocsin.api.framework.auth import Principal, caller, changer
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.lookup import ScheduleMoment, find_named
from tocsin.api.framework.pagination import PaginatedList, PaginationQuery, page
from tocsin.api.framework.resources import ApiResource, ResourceSpec, register
from tocsin.core.config import settings_store
from tocsin.escalation.changes import commands
from tocsin.escalation.models import Policy
from tocsin.escalation.policy.policy_templates import policy_templates
from tocsin.inbound.models import Integration
from tocsin.people.models import Group, User
from tocsin.simulate import report
from tocsin.simulate.policy import HypotheticalAlert, simulate

routes = AuthorizedRouter("escalation-policies")

EXAMPLE = {
    "name": "Standard",
    "default_priority": "high",
    "acknowledge": {"effect": "stop", "timeout": "30m"},
    "repeat": {"times": 2, "every": "10m"},
    "steps": [
        {"notify": {"roles": ["primary"]}, "after": "0m"},
        {"notify": {"roles": ["secondary"]}, "after": "5m"},
    ],
}


class PolicyFilters(PaginationQuery):
    name: str | None = None
    group: str | None = None


@routes.get("", Permission.SEE, answers=PaginatedList[dict[str, Any]], summary="Escalation policies")
def list_policies(request: HttpRequest, query: Query[PolicyFilters]) -> dict[str, Any]:
    rows = _rows()
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.group is not None:
        rows = rows.filter(group=find_named(Group.objects.all(), query.group, what="group", field="group"))
    return page(rows, query, _show_all)


@routes.get("/templates", Permission.SEE, summary="Policies ready to be taken: POST one's `spec` with a name")
def list_templates(request: HttpRequest) -> dict[str, Any]:
    """`items` contains `key`, `name`, `about` and `spec` of each template. Times of day are in the installation's time
    zone."""
    zone = str(settings_store.get(settings_store.TIME_ZONE))
    return {
        "items": [
            {"key": one.key, "name": one.name, "about": one.about, "spec": {"name": one.name, **one.spec}}
            for one in policy_templates(zone)
        ]
    }


class SimulateBody(Schema):
    """The hypothetical alert to simulate."""

    model_config = {"extra": "forbid"}

    at: ScheduleMoment | None = Field(default=None, description="When; now, if it is left out.")
    priority: Priority | None = Field(default=None, description="The policy's own, if it is left out.")
    integration: str | None = Field(default=None, description="Whose recipients: by number or name.")
    groups: list[str] = Field(default=[], description="Recipient groups, beside or instead of the integration's.")
    users: list[str] = Field(default=[], description="Recipient users, likewise.")
    tags: dict[str, str] = Field(default={}, description="What conditions on tags look at.")
    agent: str = Field(default="", max_length=200, description="Whom the ticket is with, as its source says it.")


_SUPPOSE_NOTHING = SimulateBody()


@routes.post(
    "/{id}/simulate", Permission.SEE, summary="Whom it would notify, by what, at which minute and why: a dry run"
)
def simulate_policy(request: HttpRequest, id: str, body: SimulateBody = _SUPPOSE_NOTHING) -> dict[str, Any]:
    """Nothing is stored or sent. `pages` contains every page with its minutes after the opening, `timeline` the entries
    that the alert's timeline would have, and `notes` further remarks."""
    who = caller(request)
    policy = POLICIES.find(id)
    users = tuple(_named(User.objects.all(), name, "user", "users", "username") for name in body.users)
    groups = tuple(_named(Group.objects.all(), name, "group", "groups", "name") for name in body.groups)
    if body.integration is not None:
        found = find_named(Integration.objects.all(), body.integration, what="integration", field="integration")
        users = (*found.recipient_users.values_list("pk", flat=True), *users)
        groups = (*found.recipient_groups.values_list("pk", flat=True), *groups)
    plan, at = commands.plan_of(policy), body.at or who.now
    supposed = HypotheticalAlert(
        tuple(dict.fromkeys(users)), tuple(dict.fromkeys(groups)), body.priority, body.tags, body.agent
    )
    played = simulate(plan, supposed, at)
    about = {"policy": policy.name, "at": at, "priority": str(body.priority or plan.default_priority)}
    return about | report.played_as_json(played, who.viewer.address)


def _named(rows: QuerySet[Any], name: str, what: str, field: str, by: str) -> int:
    return int(find_named(rows, name, what=what, field=field, by=by).pk)


def _rows() -> QuerySet[Policy]:
    return Policy.objects.select_related("group", "current_version")


def _show_all(policies: Sequence[Policy]) -> list[dict[str, Any]]:
    names = commands.reference_names(policies)
    return [
        {
            "id": policy.pk,
            "version": policy.current_version.number if policy.current_version else None,
            **commands.policy_spec(policy, names),
        }
        for policy in policies
    ]


def _save(spec: ResourceSpec, /, *, caller: Principal, existing: Policy | None) -> Policy:
    return commands.save_policy(spec, existing=existing, actor=changer(caller), now=caller.now)


def _delete(policy: Policy, actor: AuditActor, who: Principal) -> None:
    commands.delete_policy(policy, actor=actor, now=who.now)


POLICIES = ApiResource(
    routes=routes,
    what="escalation policy",
    action=Permission.TEAMS,
    rows=_rows,
    spec_of=commands.policy_spec,
    show=lambda policy, _who: _show_all([policy])[0],
    save=_save,
    delete=_delete,
    owner=lambda policy: policy.group_id,
    example=EXAMPLE,
    shown_only=frozenset({"id", "version"}),
)
register(POLICIES)
