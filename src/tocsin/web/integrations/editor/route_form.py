"""Converts routes to ordered form rows and back: condition, support hours and where the alert goes. Pure.

Keys that no row shows are preserved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext as _

from tocsin.core.errors import Rejected
from tocsin.web.integrations.editor import condition_form, suppression_form
from tocsin.web.integrations.editor.condition_form import ConditionGroup, ErrorPlaces
from tocsin.web.told import told

#: Longer lists are edited as YAML.
MAX_ROUTE_ROWS = 100

_SHOWN = frozenset({"name", "when", "during", "escalation_policy", "policy", "recipients", "priority", "action"})


@dataclass(frozen=True, slots=True)
class RouteRow:
    """One route. An empty text means the integration's own setting."""

    name: str = ""
    when: ConditionGroup = field(default_factory=ConditionGroup)
    #: "in:NAME", "out:NAME" or "".
    during: str = ""
    policy: str = ""
    #: Whether the route has its own recipients.
    has_recipients: bool = False
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    priority: str = ""
    records: bool = False
    #: Texts of the delay fields with its `kind`; empty for the integration's own delay.
    delay: Mapping[str, str] = field(default_factory=dict)
    #: Other keys, as JSON.
    more: str = ""


def rows_of(routes: object) -> tuple[RouteRow, ...]:
    """Return the rows of an integration's routes. Raises Rejected if `routes` is not a list of routes."""
    if routes in (None, {}, ""):
        return ()
    if not isinstance(routes, Sequence) or isinstance(routes, str) or not all(isinstance(r, Mapping) for r in routes):
        raise Rejected("invalid_route", "routes: are a list, each {when, during, escalation_policy, …}", "routes")
    return tuple(_row(route) for route in routes)


def routes_of(rows: Sequence[RouteRow], places: ErrorPlaces, *, is_final: bool = True) -> list[dict[str, Any]]:
    """Return the routes of the form rows. Raises Rejected for invalid YAML in a row.

    Unless `is_final`, routes with an empty condition are skipped.
    """
    said = [(f"routes.{n}", row) for n, row in enumerate(rows) if is_final or not condition_form.is_begun(row.when)]
    return [_route(row, f"routes[{n}]", name, places, is_final=is_final) for n, (name, row) in enumerate(said)]


def read(post: QueryDict) -> tuple[RouteRow, ...]:
    """Return the posted rows. Raises Rejected for more than MAX_ROUTE_ROWS rows."""
    rows: list[RouteRow] = []
    while f"routes.{len(rows)}.row" in post:
        rows.append(_read(post, f"routes.{len(rows)}"))
        if len(rows) > MAX_ROUTE_ROWS:
            raise Rejected("invalid_route", f"These are more than {MAX_ROUTE_ROWS} rows: write them as YAML.", "routes")
    return tuple(rows)


def change(rows: tuple[RouteRow, ...], number: int, what: str) -> tuple[RouteRow, ...]:
    """Apply a button to the rows: `add`, or `up`, `down`, `remove` and `to-N` for row `number`."""
    if what == "add":
        return (
            (*rows, RouteRow(when=ConditionGroup((condition_form.ComparisonRow(),))))
            if len(rows) < MAX_ROUTE_ROWS
            else rows
        )
    if number >= len(rows):
        return rows
    others = rows[:number] + rows[number + 1 :]
    if what == "remove":
        return others
    targets = {"up": number - 1, "down": number + 1}
    to = targets.get(what, int(what[3:]) if what.startswith("to-") and what[3:].isdecimal() else number)
    to = min(max(to, 0), len(others))
    return (*others[:to], rows[number], *others[to:])


def with_when(rows: tuple[RouteRow, ...], number: int, when: ConditionGroup) -> tuple[RouteRow, ...]:
    """Return the rows with the condition of row `number` replaced."""
    return (*rows[:number], replace(rows[number], when=when), *rows[number + 1 :]) if number < len(rows) else rows


def say(row: RouteRow, labels: Mapping[str, str]) -> str:
    """Describe a route in a sentence, such as "When client equals Globex, outside Office hours: only record"."""
    when = condition_form.say_rows(row.when, labels)
    parts = [_("Always") if when == "always" else _("When %(condition)s") % {"condition": when}]
    if row.during:
        where, _colon, name = row.during.partition(":")
        parts.append((_("during %(hours)s") if where == "in" else _("outside %(hours)s")) % {"hours": name})
    does = [_("%(priority)s priority") % {"priority": told(row.priority)}] if row.priority else []
    if row.records:
        does.append(_("only record"))
    else:
        by = _("page by %(policy)s") % {"policy": row.policy}
        does.append(by if row.policy else _("page by the integration's own policy"))
        if row.has_recipients:
            does.append(_("to %(names)s") % {"names": ", ".join((*row.groups, *row.users)) or _("nobody")})
    if row.delay.get("kind"):
        does.append(_said(row.delay))
    return f"{', '.join(parts)}: {', '.join(does)}."


def _row(route: Mapping[str, Any]) -> RouteRow:
    recipients = route.get("recipients")
    known = recipients if isinstance(recipients, Mapping) else {}
    during = route.get("during")
    delay = suppression_form.texts_of_delay(route.get("delay"))
    more = {key: value for key, value in route.items() if key not in _SHOWN and not (key == "delay" and delay)}
    return RouteRow(
        name=str(route.get("name") or ""),
        when=condition_form.rows_of(route.get("when")),
        during=f"out:{during.get('not')}" if isinstance(during, Mapping) else f"in:{during}" if during else "",
        policy=str(route.get("escalation_policy") or route.get("policy") or ""),
        has_recipients=recipients is not None,
        users=tuple(map(str, known.get("users") or ())),
        groups=tuple(map(str, known.get("groups") or ())),
        priority=str(route.get("priority") or ""),
        records=route.get("action") == "record",
        delay=delay,
        more=json.dumps(more, ensure_ascii=False, default=str) if more else "",
    )


def _said(delay: Mapping[str, str]) -> str:
    span = {name: delay.get(name) or "…" for name in ("wait", "alerts", "within", "every", "until")}
    is_shared = delay.get("per") == "integration"
    match delay["kind"]:
        case "wait":
            said = _("after %(wait)s, unless it closes before")
        case "alerts" if delay.get("within"):
            of_all = _("when %(alerts)s alerts of the integration came within %(within)s")
            said = of_all if is_shared else _("when %(alerts)s alerts came within %(within)s")
        case "alerts":
            of_all = _("when %(alerts)s alerts of the integration came")
            said = of_all if is_shared else _("when %(alerts)s alerts came")
        case "every":
            of_all = _("at most once every %(every)s for the whole integration")
            said = of_all if is_shared else _("at most once every %(every)s")
        case "until":
            said = _("when the support hours %(until)s begin")
        case _:
            said = _("at once")
    return said % span


def _route(row: RouteRow, where: str, prefix: str, places: ErrorPlaces, *, is_final: bool) -> dict[str, Any]:
    places.rows[where] = prefix
    route: dict[str, Any] = {"name": row.name} if row.name else {}
    when = condition_form.condition_of(row.when, f"{where}.when", f"{prefix}.when", places, is_final=is_final)
    if when is not None:
        route["when"] = when
    kind, _colon, name = row.during.partition(":")
    if name:
        route["during"] = {"not": name} if kind == "out" else name
    if row.policy:
        route["escalation_policy"] = row.policy
    if row.has_recipients:
        named = (("users", row.users), ("groups", row.groups))
        route["recipients"] = {key: list(names) for key, names in named if names}
    if row.priority:
        route["priority"] = row.priority
    if row.records:
        route["action"] = "record"
    if (delay := suppression_form.delay_of(row.delay)) is not None:
        route["delay"] = delay
    if row.more:
        try:
            more = json.loads(row.more)
        except ValueError:
            raise Rejected("invalid_route", f"{where}: what no row shows cannot be read", where) from None
        route |= more if isinstance(more, dict) else {}
    return route


def _read(post: QueryDict, prefix: str) -> RouteRow:
    return RouteRow(
        name=str(post.get(f"{prefix}.name", "")).strip(),
        when=condition_form.read(post.dict(), f"{prefix}.when"),
        during=str(post.get(f"{prefix}.during", "")),
        policy=str(post.get(f"{prefix}.policy", "")),
        has_recipients=f"{prefix}.own" in post,
        users=tuple(map(str, post.getlist(f"{prefix}.users"))),
        groups=tuple(map(str, post.getlist(f"{prefix}.groups"))),
        priority=str(post.get(f"{prefix}.priority", "")),
        records=post.get(f"{prefix}.action", "") == "record",
        delay={
            name: text
            for name in suppression_form.FIELDS["delay"]
            if (text := str(post.get(f"{prefix}.delay.{name}", "")).strip())
        },
        more=str(post.get(f"{prefix}.more", "")),
    )
