"""Escalation policies: whom to page in which order, after which delays, and what stops the escalation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.alerts.states import Priority
from tocsin.api.framework.auth import Principal, ScheduleMoment, caller
from tocsin.api.framework.resources import ApiResource, register
from tocsin.api.framework.simulation_schemas import PolicySimulationResponse
from tocsin.core.config import settings_store
from tocsin.escalation import commands
from tocsin.escalation.models import Policy
from tocsin.escalation.policy import policy_templates
from tocsin.resources import registry
from tocsin.simulate import chain
from tocsin.simulate.escalation import HypotheticalAlert, simulate


def _show(policies: Sequence[Policy], _principal: Principal) -> list[dict[str, Any]]:
    return [
        {"version": policy.current_version.number if policy.current_version else None, **spec}
        for policy, spec in zip(policies, registry.POLICIES.specs(policies), strict=True)
    ]


class PolicyFields(BaseModel):
    """What is shown of a policy besides its settings."""

    version: int | None = Field(description="Number of its current version.")


POLICIES = ApiResource(registry.POLICIES, show=_show, read_only=PolicyFields)
routes = POLICIES.routes


class PolicyTemplateSchema(BaseModel):
    """A policy that is ready to begin with."""

    key: str
    name: str
    about: str
    spec: Annotated[dict[str, Any], POLICIES.schema.whole.annotation]


class PolicyTemplatesResponse(BaseModel):
    items: list[PolicyTemplateSchema]


@routes.get(
    "/templates",
    Permission.VIEW_ALERTS,
    answers=PolicyTemplatesResponse,
    summary="Policies ready to be taken: POST one's `spec` with a name",
)
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
    answers=PolicySimulationResponse,
    summary="Whom it would notify, by what, at which minute and why: a dry run",
)
def simulate_policy(request: HttpRequest, id: str, body: SimulateBody = _EMPTY_BODY) -> dict[str, Any]:
    """Nothing is stored or sent. `pages` contains every page with its minutes after the opening, `timeline` the entries
    that the alert's timeline would have, and `notes` further remarks."""
    principal = caller(request)
    policy = POLICIES.find(id)
    users = tuple(registry.USERS.resolve(name, "users").pk for name in body.users)
    groups = tuple(registry.GROUPS.resolve(name, "groups").pk for name in body.groups)
    if body.integration is not None:
        integration = registry.INTEGRATIONS.resolve(body.integration, "integration")
        users = (*integration.recipient_users.values_list("pk", flat=True), *users)
        groups = (*integration.recipient_groups.values_list("pk", flat=True), *groups)
    plan, at = commands.plan_of(policy), body.at or principal.now
    hypothetical_alert = HypotheticalAlert(
        tuple(dict.fromkeys(users)), tuple(dict.fromkeys(groups)), body.priority, body.tags, body.agent
    )
    simulation = simulate(plan, hypothetical_alert, at)
    header = {"policy": policy.name, "at": at, "priority": str(body.priority or plan.default_priority)}
    return header | chain.run_as_json(simulation, principal.viewer.address)


register(POLICIES)
