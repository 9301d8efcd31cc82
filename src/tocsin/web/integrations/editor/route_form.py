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
from tocsin.core.reasons import Text, local_term, sentence
from tocsin.core.validation.field_errors import rejected_at
from tocsin.inbound.config.rules import KEYS
from tocsin.web.integrations.editor import condition_form
from tocsin.web.integrations.editor.condition_form import ConditionGroup, ErrorPlaces

# ---------- suppression form
# Converts noise reduction settings (delay, grouping, parent, flapping, flood) to form fields and back. Pure.


_NOT_AN_OBJECT = Text("must be an object with {names}")

#: The fields of each part. Every part is a mapping, except `parent`, which is a text.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "delay": ("kind", "wait", "alerts", "within", "every", "until", "per"),
    "grouping": ("by", "within"),
    "parent": ("by",),
    "flapping": ("alerts", "within", "stable"),
    "flood": ("burst", "every"),
}

#: Delay of a route that never waits, whatever the integration's delay.
NO_DELAY = "none"

_NUMBERS = frozenset({"delay.alerts", "flapping.alerts", "flood.burst"})

#: Fields of each kind of delay.
_DELAY_FIELDS: Mapping[str, tuple[str, ...]] = {
    "wait": ("wait",),
    "alerts": ("alerts", "within", "per"),
    "every": ("every", "per"),
    "until": ("until",),
}


@dataclass(frozen=True, slots=True)
class SuppressionFields:
    """The texts of all fields, keyed `part.field`."""

    texts: Mapping[str, str]

    def text(self, name: str) -> str:
        """Return the text of one field."""
        return self.texts.get(name, "")

    @property
    def fields(self) -> dict[str, dict[str, str]]:
        """Return {part: {field: text}}, for templates."""
        return {part: {name: self.text(f"{part}.{name}") for name in names} for part, names in FIELDS.items()}


def rows_of(parts: Mapping[str, Any]) -> SuppressionFields:
    """Return the fields of the definition's parts. Raises Rejected if a part has the wrong shape."""
    texts: dict[str, str] = {}
    for part in KEYS:
        value = parts.get(part)
        if value in (None, "", {}, "none"):
            continue
        if part == "parent":
            value = {"by": value}
        if not isinstance(value, Mapping) or not set(value) <= set(FIELDS[part]):
            raise rejected_at(part, _NOT_AN_OBJECT(names=tuple(FIELDS[part])), "invalid_shaping")
        texts |= {f"{part}.{name}": str(setting) for name, setting in value.items() if setting is not None}
        if part == "delay":
            texts["delay.kind"] = next((kind for kind in _DELAY_FIELDS if kind in value), "")
    return SuppressionFields(texts)


def read(post: QueryDict) -> SuppressionFields:
    """Return the posted fields."""
    names = (f"{part}.{name}" for part, names in FIELDS.items() for name in names)
    return SuppressionFields({name: str(post.get(f"suppression.{name}", "")).strip() for name in names})


def texts_of_delay(delay: object) -> dict[str, str]:
    """Return the field texts of a delay. Empty if it is absent or of a form that the fields cannot show."""
    if delay == NO_DELAY:
        return {"kind": NO_DELAY}
    kind = (
        next((name_of_kind for name_of_kind in _DELAY_FIELDS if name_of_kind in delay), "")
        if isinstance(delay, Mapping)
        else ""
    )
    if not isinstance(delay, Mapping) or not kind or not set(delay) <= set(_DELAY_FIELDS[kind]):
        return {}
    return {"kind": kind, **{str(name): str(setting) for name, setting in delay.items() if setting is not None}}


def delay_of(texts: Mapping[str, str]) -> dict[str, Any] | str | None:
    """Return the delay of the field texts, or None if none is chosen. Fields of other kinds of delay are ignored."""
    kind = texts.get("kind", "")
    if kind == NO_DELAY:
        return NO_DELAY
    if kind not in _DELAY_FIELDS:
        return None
    delay = _part(
        SuppressionFields({f"delay.{name}": text for name, text in texts.items()}), "delay", _DELAY_FIELDS[kind]
    )
    # A kind without its duration: the command rejects it by name, instead of silently dropping it here.
    return delay or {kind: ""}


def parts_of(suppression: SuppressionFields) -> dict[str, Any]:
    """Return the parts; None for each that is not set."""
    parts: dict[str, Any] = {"delay": delay_of({name: suppression.text(f"delay.{name}") for name in FIELDS["delay"]})}
    for part in ("grouping", "flapping", "flood"):
        parts[part] = _part(suppression, part, FIELDS[part])
    return {**parts, "parent": suppression.text("parent.by") or None}


def _part(suppression: SuppressionFields, part: str, names: tuple[str, ...]) -> dict[str, Any] | None:
    values = {name: _value(f"{part}.{name}", text) for name in names if (text := suppression.text(f"{part}.{name}"))}
    return values if values.keys() - {"per"} else None


def _value(name: str, text: str) -> Any:
    return int(text) if name in _NUMBERS and text.isascii() and text.isdigit() and len(text) < 7 else text


_NOT_A_LIST = Text("must be a list, each {example}")
_TOO_MANY_ROWS = Text("More than {limit} rows: edit the routes as YAML.")

#: Longer lists are edited as YAML.
MAX_ROUTE_ROWS = 100

#: Value of "no users" or "no groups" in the form. A name has no slash.
NO_ONE = "/"

_FORM_KEYS = frozenset(
    {"name", "when", "during", "escalation_policy", "recipients", "client_table", "priority", "action"}
)

#: Keys of a route → the form field that shows their errors.
_PLACES = {
    "during": "during",
    "escalation_policy": "policy",
    "recipients.users": "users",
    "recipients.groups": "groups",
    "client_table": "client_table",
    "priority": "priority",
    "delay": "delay",
}


@dataclass(frozen=True, slots=True)
class RouteRow:
    """One route. An empty text means the integration's own setting."""

    name: str = ""
    when: ConditionGroup = field(default_factory=ConditionGroup)
    #: "in:NAME", "out:NAME" or "".
    during: str = ""
    policy: str = ""
    #: None means the integration's own users or groups.
    users: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    client_table: str = ""
    priority: str = ""
    is_log_only: bool = False
    #: Texts of the delay fields with its `kind`; empty for the integration's own delay.
    delay: Mapping[str, str] = field(default_factory=dict)
    #: Other keys, as JSON.
    other_keys: str = ""


def route_rows(routes: object) -> tuple[RouteRow, ...]:
    """Return the rows of an integration's routes. Raises Rejected if `routes` is not a list of routes."""
    if routes in (None, {}, ""):
        return ()
    if not isinstance(routes, Sequence) or isinstance(routes, str) or not all(isinstance(r, Mapping) for r in routes):
        raise rejected_at("routes", _NOT_A_LIST(example="{when, during, escalation_policy, …}"), "invalid_route")
    return tuple(_row(route) for route in routes)


def routes_of(rows: Sequence[RouteRow], places: ErrorPlaces, *, is_final: bool = True) -> list[dict[str, Any]]:
    """Return the routes of the form rows. Raises Rejected for invalid YAML in a row.

    Unless `is_final`, routes with an empty condition are skipped.
    """
    complete_rows = [
        (f"routes.{n}", row) for n, row in enumerate(rows) if is_final or not condition_form.is_incomplete(row.when)
    ]
    return [_route(row, f"routes[{n}]", name, places, is_final=is_final) for n, (name, row) in enumerate(complete_rows)]


def read_routes(post: QueryDict) -> tuple[RouteRow, ...]:
    """Return the posted rows. Raises Rejected for more than MAX_ROUTE_ROWS rows."""
    rows: list[RouteRow] = []
    while f"routes.{len(rows)}.row" in post:
        rows.append(_read(post, f"routes.{len(rows)}"))
        if len(rows) > MAX_ROUTE_ROWS:
            raise Rejected("invalid_route", _TOO_MANY_ROWS(limit=MAX_ROUTE_ROWS), "routes")
    return tuple(rows)


def change(rows: tuple[RouteRow, ...], number: int, action: str) -> tuple[RouteRow, ...]:
    """Apply a button to the rows: `add`, or `up`, `down`, `remove` and `to-N` for row `number`."""
    if action == "add":
        return (
            (*rows, RouteRow(when=ConditionGroup((condition_form.ComparisonRow(),))))
            if len(rows) < MAX_ROUTE_ROWS
            else rows
        )
    if number >= len(rows):
        return rows
    other_rows = rows[:number] + rows[number + 1 :]
    if action == "remove":
        return other_rows
    targets = {"up": number - 1, "down": number + 1}
    target = targets.get(action, int(action[3:]) if action.startswith("to-") and action[3:].isdecimal() else number)
    target = min(max(target, 0), len(other_rows))
    return (*other_rows[:target], rows[number], *other_rows[target:])


def with_when(rows: tuple[RouteRow, ...], number: int, when: ConditionGroup) -> tuple[RouteRow, ...]:
    """Return the rows with the condition of row `number` replaced."""
    return (*rows[:number], replace(rows[number], when=when), *rows[number + 1 :]) if number < len(rows) else rows


def describe_route(row: RouteRow, labels: Mapping[str, str]) -> str:
    """Describe a route in a sentence, such as "When client equals Globex, outside Office hours: only record"."""
    when = condition_form.describe_rows(row.when, labels)
    parts = [_("Always") if when == "always" else _("When %(condition)s") % {"condition": when}]
    if row.during:
        relation, _colon, name = row.during.partition(":")
        parts.append((_("during %(hours)s") if relation == "in" else _("outside %(hours)s")) % {"hours": name})
    effects = [_("%(priority)s priority") % {"priority": local_term(row.priority)}] if row.priority else []
    if row.is_log_only:
        effects.append(_("log only"))
    else:
        policy_text = _("page using %(policy)s") % {"policy": row.policy}
        effects.append(policy_text if row.policy else _("page using the integration's policy"))
        if row.client_table:
            effects.append(_("by client table %(table)s") % {"table": row.client_table})
        if names := (*(row.groups or ()), *(row.users or ())):
            effects.append(_("to %(names)s") % {"names": ", ".join(names)})
        elif row.groups == row.users == ():
            effects.append(_("to no one"))
    if row.delay.get("kind"):
        effects.append(_describe_delay(row.delay))
    return f"{', '.join(parts)}: {', '.join(effects)}."


def _row(route: Mapping[str, Any]) -> RouteRow:
    recipients = route.get("recipients")
    recipient_names = recipients if isinstance(recipients, Mapping) else {}
    during = route.get("during")
    delay = texts_of_delay(route.get("delay"))
    more = {key: value for key, value in route.items() if key not in _FORM_KEYS and not (key == "delay" and delay)}
    return RouteRow(
        name=str(route.get("name") or ""),
        when=condition_form.rows_of(route.get("when")),
        during=f"out:{during.get('not')}" if isinstance(during, Mapping) else f"in:{during}" if during else "",
        policy=str(route.get("escalation_policy") or ""),
        users=_names(recipient_names.get("users")),
        groups=_names(recipient_names.get("groups")),
        client_table=str(route.get("client_table") or ""),
        priority=str(route.get("priority") or ""),
        is_log_only=route.get("action") == "record",
        delay=delay,
        other_keys=json.dumps(more, ensure_ascii=False, default=str) if more else "",
    )


def _describe_delay(delay: Mapping[str, str]) -> str:
    values = {name: delay.get(name) or "…" for name in ("wait", "alerts", "within", "every", "until")}
    is_shared = delay.get("per") == "integration"
    match delay["kind"]:
        case "wait":
            template = _("after %(wait)s, unless it closes first")
        case "alerts" if delay.get("within"):
            shared_template = _("after %(alerts)s alerts of the integration within %(within)s")
            template = shared_template if is_shared else _("after %(alerts)s alerts within %(within)s")
        case "alerts":
            shared_template = _("after %(alerts)s alerts of the integration")
            template = shared_template if is_shared else _("after %(alerts)s alerts")
        case "every":
            shared_template = _("at most once every %(every)s per integration")
            template = shared_template if is_shared else _("at most once every %(every)s")
        case "until":
            template = _("when support hours %(until)s begin")
        case _:
            template = _("immediately")
    return template % values


def _route(row: RouteRow, place: str, prefix: str, places: ErrorPlaces, *, is_final: bool) -> dict[str, Any]:
    places.rows[place] = prefix
    places.rows |= {f"{place}.{key}": f"{prefix}.{name}" for key, name in _PLACES.items()}
    route: dict[str, Any] = {"name": row.name} if row.name else {}
    when = condition_form.condition_of(row.when, f"{place}.when", f"{prefix}.when", places, is_final=is_final)
    if when is not None:
        route["when"] = when
    kind, _colon, name = row.during.partition(":")
    if name:
        route["during"] = {"not": name} if kind == "out" else name
    if row.policy:
        route["escalation_policy"] = row.policy
    own_recipients = (("users", row.users), ("groups", row.groups))
    if recipients := {key: list(names) for key, names in own_recipients if names is not None}:
        route["recipients"] = recipients
    if row.client_table:
        route["client_table"] = row.client_table
    if row.priority:
        route["priority"] = row.priority
    if row.is_log_only:
        route["action"] = "record"
    if (delay := delay_of(row.delay)) is not None:
        route["delay"] = delay
    if row.other_keys:
        try:
            more = json.loads(row.other_keys)
        except ValueError:
            raise rejected_at(
                place, sentence("the settings not shown in the form are invalid"), "invalid_route"
            ) from None
        route |= more if isinstance(more, dict) else {}
    return route


def _read(post: QueryDict, prefix: str) -> RouteRow:
    return RouteRow(
        name=str(post.get(f"{prefix}.name", "")).strip(),
        when=condition_form.read_conditions(post.dict(), f"{prefix}.when"),
        during=str(post.get(f"{prefix}.during", "")),
        policy=str(post.get(f"{prefix}.policy", "")),
        users=_read_names(post, f"{prefix}.users"),
        groups=_read_names(post, f"{prefix}.groups"),
        client_table=str(post.get(f"{prefix}.client_table", "")),
        priority=str(post.get(f"{prefix}.priority", "")),
        is_log_only=post.get(f"{prefix}.action", "") == "record",
        delay={name: text for name in FIELDS["delay"] if (text := str(post.get(f"{prefix}.delay.{name}", "")).strip())},
        other_keys=str(post.get(f"{prefix}.more", "")),
    )


def _names(names: object) -> tuple[str, ...] | None:
    return tuple(map(str, names)) if isinstance(names, list | tuple) else None


def _read_names(post: QueryDict, field_name: str) -> tuple[str, ...] | None:
    """Return the posted names: those of the chips, and the one that was picked last."""
    posted = dict.fromkeys(name for name in map(str, post.getlist(field_name)) if name)
    names = tuple(name for name in posted if name != NO_ONE)
    return names if names or NO_ONE in posted else None
