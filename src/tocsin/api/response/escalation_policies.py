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
from tocsin.api.framework.auth import Principal, audit_actor_of, caller
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


@routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[dict[str, Any]], summary="Escalation policies")
def list_policies(request: HttpRequest, query: Query[PolicyFilters]) -> dict[str, Any]:
    rows = _rows()
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.group is not None:
        rows = rows.filter(group=find_named(Group.objects.all(), query.group, label="group", field="group"))
    return page(rows, query, _show_all)


@routes.get("/templates", Permission.VIEW_ALERTS, summary="Policies ready to be taken: POST one's `spec` with a name")
def list_templates(request: HttpRequest) -> dict[str, Any]:
    """`items` contains `key`, `name`, `about` and `spec` of each template. Times of day are in the installation's time
    zone."""
    zone = str(settings_store.get(settings_store.TIME_ZONE))
    return {
        "items": [
            {
                "key": template.key,
                "name": template.name,
                "about": template.about,
                "spec": {"name": template.name, **template.spec},
            }
            for template in policy_templates(zone)
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


_EMPTY_BODY = SimulateBody()


@routes.post(
    "/{id}/simulate",
    Permission.VIEW_ALERTS,
    summary="Whom it would notify, by what, at which minute and why: a dry run",
)
def simulate_policy(request: HttpRequest, id: str, body: SimulateBody = _EMPTY_BODY) -> dict[str, Any]:
    """Nothing is stored or sent. `pages` contains every page with its minutes after the opening, `timeline` the entries
    that the alert's timeline would have, and `notes` further remarks."""
    principal = caller(request)
    policy = POLICIES.find(id)
    users = tuple(_find_id(User.objects.all(), name, "user", "users", "username") for name in body.users)
    groups = tuple(_find_id(Group.objects.all(), name, "group", "groups", "name") for name in body.groups)
    if body.integration is not None:
        integration = find_named(Integration.objects.all(), body.integration, label="integration", field="integration")
        users = (*integration.recipient_users.values_list("pk", flat=True), *users)
        groups = (*integration.recipient_groups.values_list("pk", flat=True), *groups)
    plan, at = commands.plan_of(policy), body.at or principal.now
    hypothetical_alert = HypotheticalAlert(
        tuple(dict.fromkeys(users)), tuple(dict.fromkeys(groups)), body.priority, body.tags, body.agent
    )
    simulation = simulate(plan, hypothetical_alert, at)
    header = {"policy": policy.name, "at": at, "priority": str(body.priority or plan.default_priority)}
    return header | report.run_as_json(simulation, principal.viewer.address)


def _find_id(rows: QuerySet[Any], name: str, label: str, field: str, name_column: str) -> int:
    return int(find_named(rows, name, label=label, field=field, name_column=name_column).pk)


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
    return commands.save_policy(spec, existing=existing, actor=audit_actor_of(caller), now=caller.now)


def _delete(policy: Policy, actor: AuditActor, principal: Principal) -> None:
    commands.delete_policy(policy, actor=actor, now=principal.now)


POLICIES = ApiResource(
    routes=routes,
    label="escalation policy",
    change_permission=Permission.MANAGE_TEAMS,
    rows=_rows,
    to_spec=commands.policy_spec,
    show=lambda policy, _who: _show_all([policy])[0],
    save=_save,
    delete=_delete,
    owner_group_id=lambda policy: policy.group_id,
    example=EXAMPLE,
    read_only_keys=frozenset({"id", "version"}),
)
register(POLICIES)
