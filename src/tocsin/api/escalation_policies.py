"""Escalation policies: whom to notify, in what order, after how long, and what stops it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query

from tocsin.access.audit import Actor
from tocsin.access.roles import Action
from tocsin.api.config_nouns import ConfigNoun, Spec, register
from tocsin.api.gate import Caller, changer
from tocsin.api.lookup import find_named
from tocsin.api.paging import Page, PageQuery, page
from tocsin.api.routes import Routes
from tocsin.escalation import commands
from tocsin.escalation.models import Policy
from tocsin.people.models import Group

routes = Routes("escalation-policies")

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


class PolicyFilters(PageQuery):
    name: str | None = None
    group: str | None = None


@routes.get("", Action.SEE, answers=Page[dict[str, Any]], summary="Escalation policies")
def list_policies(request: HttpRequest, query: Query[PolicyFilters]) -> dict[str, Any]:
    rows = _rows()
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.group is not None:
        rows = rows.filter(group=find_named(Group.objects.all(), query.group, what="group", field="group"))
    return page(rows, query, _show_all)


def _rows() -> QuerySet[Policy]:
    return Policy.objects.select_related("group", "current")


def _show_all(policies: Sequence[Policy]) -> list[dict[str, Any]]:
    names = commands.names_of(policies)
    return [
        {
            "id": policy.pk,
            "version": policy.current.number if policy.current else None,
            **commands.policy_spec(policy, names),
        }
        for policy in policies
    ]


def _save(spec: Spec, /, *, caller: Caller, existing: Policy | None) -> Policy:
    return commands.save_policy(spec, existing=existing, actor=changer(caller), now=caller.now)


def _delete(policy: Policy, actor: Actor, who: Caller) -> None:
    commands.delete_policy(policy, actor=actor, now=who.now)


POLICIES = ConfigNoun(
    routes=routes,
    what="escalation policy",
    action=Action.TEAMS,
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
