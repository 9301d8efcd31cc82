"""The two rules that users set by a click: which tickets page, and what a status that was received does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, assert_never

from tocsin.access.audit import AuditActor
from tocsin.catalogue.kinds import Category, load_kinds
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.ids import first_uuid7
from tocsin.core.reasons import NO_REASON, Reason, sentence
from tocsin.core.validation.inputs import AT_PATH
from tocsin.inbound.admin import commands, specs
from tocsin.inbound.config.normalizer import NormalizedEvent, Normalizer
from tocsin.inbound.config.rules import UNKNOWN_KIND, EventAction
from tocsin.inbound.deciding import state
from tocsin.inbound.deciding.state import is_new_ticket_event
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.inspect import normalizer_of_version
from tocsin.inbound.models import InboundMessage, Integration, decompress
from tocsin.inbound.parsing.decode import decode
from tocsin.inbound.storage.messages import MessageBudget

# ---------- presets
# "Which tickets page?": the usual answers, each stored as one route of that name before all others. Pure.
# A ticket that does not page still becomes an alert (log only). A ticket whose priority was not understood pages.

#: The name of the preset's route, by which it is recognised.
NAME = "Which tickets page?"


class PresetKind(StrEnum):
    ALL = "all"  # all new ones
    URGENT = "urgent"  # critical and high
    OUTSIDE_SUPPORT_HOURS = "outside"  # outside support hours
    SELECTED = "these"  # these types or clients


@dataclass(frozen=True, slots=True)
class RoutingPreset:
    """One answer with its parameters: the name of support hours, or ticket types and clients."""

    kind: PresetKind = PresetKind.ALL
    hours: str = ""
    types: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether all parameters of the answer are set."""
        if self.kind is PresetKind.OUTSIDE_SUPPORT_HOURS:
            return bool(self.hours)
        return self.kind is not PresetKind.SELECTED or bool(self.types or self.clients)


def preset_of(routes: object) -> RoutingPreset | None:
    """Returns the answer that `routes` (as in a spec) express; None if its route was edited by hand."""
    first = routes[0] if isinstance(routes, Sequence) and not isinstance(routes, str) and routes else None
    if not isinstance(first, Mapping) or first.get("name") != NAME:
        return RoutingPreset()
    hours = first.get("during")
    lists = _lists(first.get("when"))
    for preset in (
        RoutingPreset(PresetKind.URGENT),
        RoutingPreset(PresetKind.OUTSIDE_SUPPORT_HOURS, hours if isinstance(hours, str) else ""),
        RoutingPreset(PresetKind.SELECTED, types=lists.get("ticket_type", ()), clients=lists.get("client", ())),
    ):
        if preset.is_complete and _route(preset) == dict(first):
            return preset
    return None


def routes_with_preset(routes: object, preset: RoutingPreset) -> list[Any]:
    """Returns the routes with this answer's route first, replacing the previous answer's."""
    current_routes = list(routes) if isinstance(routes, Sequence) and not isinstance(routes, str) else []
    other_routes = [route for route in current_routes if not (isinstance(route, Mapping) and route.get("name") == NAME)]
    route = _route(preset)
    return [route, *other_routes] if route is not None else other_routes


def _route(preset: RoutingPreset) -> dict[str, Any] | None:
    match preset.kind:
        case PresetKind.ALL:
            return None
        case PresetKind.URGENT:
            when: Any = {"field": "priority", "operator": "one of", "value": ["medium", "low"]}
        case PresetKind.OUTSIDE_SUPPORT_HOURS:
            return {"name": NAME, "during": preset.hours, "action": "record"}
        case PresetKind.SELECTED:
            values_by_field = (("ticket_type", preset.types), ("client", preset.clients))
            parts = [
                {"field": f, "operator": "one of", "value": list(values)} for f, values in values_by_field if values
            ]
            when = {"not": {"any": parts}}
        case _:
            assert_never(preset.kind)
    return {"name": NAME, "when": when, "action": "record"}


def _lists(when: object) -> dict[str, tuple[str, ...]]:
    """Returns the values by field of a condition `{not: {any: […]}}`."""
    inner = when.get("not") if isinstance(when, Mapping) else None
    parts = inner.get("any") if isinstance(inner, Mapping) else None
    values_by_field = {}
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, Mapping) and isinstance(part.get("value"), list):
            values_by_field[str(part.get("field"))] = tuple(map(str, part["value"]))
    return values_by_field


# ---------- status rules
# What a status does under an integration's rules, and the rules after a user changes that. Pure.
# A status gets a condition of its own, `source_status equals X`, so that the rules stay readable.


class StatusEffect(StrEnum):
    """What a status does; the values of the buttons in the UI."""

    OPEN = "open"
    CLOSE = "close"
    UPDATE = "update"


def action_of_status(normalizer: Normalizer, status: str) -> StatusEffect:
    """Returns what a message does that contains nothing but this status."""
    match normalizer.action_of_status(status):
        case EventAction.OPEN:
            return StatusEffect.OPEN
        case EventAction.CLOSE | EventAction.CANCEL:
            return StatusEffect.CLOSE
        case EventAction.UPDATE | EventAction.NONE:
            return StatusEffect.UPDATE


def with_status_action(
    rules: Mapping[str, Any], defaults: Mapping[str, Any], status: str, effect: StatusEffect
) -> dict[str, Any]:
    """Returns the integration's own `rules` with `status` doing `effect`; `defaults` are the kind's rules."""
    merged_rules = {**defaults, **rules}
    opens, closes = _without(merged_rules.get("open"), status), _without(merged_rules.get("close"), status)
    match effect:
        case StatusEffect.OPEN:
            opens, closes = _or(opens, status), _but_not(closes, status)
        case StatusEffect.CLOSE:
            # Close rules are evaluated before open rules: the open rule needs no exception.
            closes = _or(closes, status)
        case StatusEffect.UPDATE:
            opens, closes = _but_not(opens, status), _but_not(closes, status)
    changed_rules = dict(rules)
    for name, rule in (("open", opens), ("close", closes)):
        if rule == defaults.get(name):
            changed_rules.pop(name, None)
        else:
            changed_rules[name] = rule
    return changed_rules


def _is(status: str) -> dict[str, Any]:
    return {"field": "source_status", "operator": "equals", "value": status}


def _same(condition: object, status: str) -> bool:
    if not isinstance(condition, Mapping):
        return False
    value = condition.get("value")
    return (
        condition.get("field") == "source_status"
        and condition.get("operator") == "equals"
        and isinstance(value, str)
        and value.casefold() == status.casefold()
    )


def _without(rule: Any, status: str) -> Any:
    """Returns the rule without the conditions that were added for that status."""
    if _same(rule, status):
        return None
    if isinstance(rule, Mapping) and set(rule) == {"any"}:
        conditions = [part for part in rule["any"] if not _same(part, status)]
        return conditions[0] if len(conditions) == 1 else {"any": conditions} if conditions else None
    if isinstance(rule, Mapping) and set(rule) == {"all"}:
        conditions = [part for part in rule["all"] if not (set(part) == {"not"} and _same(part["not"], status))]
        # Such conditions may also be inside the first part, next to an exception.
        conditions = [_without(part, status) if index == 0 else part for index, part in enumerate(conditions)]
        conditions = [part for part in conditions if part is not None]
        return conditions[0] if len(conditions) == 1 else {"all": conditions} if conditions else None
    return rule


def _or(rule: Any, status: str) -> Any:
    if rule is None or rule is False:
        return _is(status)
    if rule is True:
        return rule
    if isinstance(rule, Mapping) and set(rule) == {"any"}:
        return {"any": [*rule["any"], _is(status)]}
    return {"any": [rule, _is(status)]}


def _but_not(rule: Any, status: str) -> Any:
    if rule is None or rule is False:
        return rule
    exception = {"not": _is(status)}
    if isinstance(rule, Mapping) and set(rule) == {"all"}:
        return {"all": [*rule["all"], exception]}
    return {"all": [rule, exception]}


#: Reasons of messages that should have ended or changed an alert.
_WITHOUT_ALERT = (state.NO_ALERT_TO_CLOSE.code, state.NO_ALERT_TO_UPDATE.code)
#: Fewer may be of alerts that a user closed, or that opened before the integration was in use.
_MIN_WITHOUT_ALERT = 3

MONTH = timedelta(days=30)
WEEK = timedelta(days=7)

#: The number of newest messages to examine, and of statuses to show.
_MAX_MESSAGES = 20_000
_MAX_STATUSES = 40

#: The number of newest tickets that opened nothing whose first message is parsed again.
_TICKETS = 100


@dataclass(frozen=True, slots=True)
class ObservedStatus:
    """One status received in the last 30 days."""

    name: str
    count: int
    #: In the last 7 days.
    count_week: int
    last_at: datetime
    #: None if the rules do not compile.
    does: StatusEffect | None
    #: New tickets of the last 7 days whose first message had this status and opened nothing.
    opened_nothing: int = 0


@dataclass(frozen=True, slots=True)
class ObservedStatuses:
    """All observed statuses, most frequent first, and a warning, or `NO_REASON`."""

    statuses: tuple[ObservedStatus, ...]
    warning: Reason = NO_REASON
    #: Why messages of new tickets were left out; `NO_REASON` if none was.
    partial: Reason = NO_REASON


def load_observed_statuses(integration: Integration, now: datetime) -> ObservedStatuses:
    """Returns the statuses the integration received. Samples and replays do not count."""
    try:
        normalizer = normalizer_of_version(integration, integration.current_version)
    except Rejected:
        normalizer = None
    with database.transaction() as connection:
        window = {
            "integration": integration.pk,
            "since": first_uuid7(now - MONTH),
            "week": now - WEEK,
            "limit": _MAX_MESSAGES,
        }
        rows = connection.execute(_COUNTED, {**window, "most": _MAX_STATUSES}).fetchall()
        messages = connection.execute(_FIRST, {**window, "tickets": _TICKETS}).fetchall()
    budget = MessageBudget()
    unopened = _unopened(messages, normalizer, budget) if normalizer is not None else {}
    statuses = tuple(
        ObservedStatus(
            name,
            count,
            week,
            last_at,
            action_of_status(normalizer, name) if normalizer is not None else None,
            unopened.get(name, 0),
        )
        for name, count, week, last_at in rows
    )
    return ObservedStatuses(statuses, _warning(statuses, unopened), budget.reason)


def set_status(
    integration: Integration, status: str, effect: StatusEffect, *, actor: AuditActor, now: datetime
) -> Integration:
    """Makes messages with that status open, close or update, and saves a new version of the integration.

    Raises what `rules_with_status` raises.
    """
    with settings_store.exclusive(integration):
        spec = {**commands.integration_spec(integration), "rules": rules_with_status(integration, status, effect)}
        return commands.save_integration(spec, existing=integration, actor=actor, now=now)


def rules_with_status(integration: Integration, status: str, effect: StatusEffect) -> dict[str, Any]:
    """Returns the integration's own rules, changed so that messages with that status open, close or update.

    Raises Rejected("invalid") for an empty or overlong status, Rejected("not_possible") if other rules decide about it.
    """
    if not status.strip() or len(status) > 100:
        raise Rejected(
            "invalid",
            AT_PATH(path="status", problem=sentence("must be the name of a status, of 1 to 100 characters.")),
            "status",
        )
    kind = load_kinds().get(integration.kind)
    if kind is None:
        raise Rejected("not_possible", UNKNOWN_KIND(kind=integration.kind))
    version = integration.current_version
    definition = dict(version.definition) if version is not None else {}
    rules = with_status_action(definition.get("rules") or {}, kind.rules, status, effect)
    normalizer = specs.build_normalizer(kind, {**definition, "rules": rules}, integration.settings)
    if action_of_status(normalizer, status) is not effect:
        raise Rejected(
            "not_possible",
            sentence('The rules use more than the name of "{status}". Change them on the Rules tab.', status=status),
            "status",
        )
    return rules


def count_without_alert(integration: Integration, now: datetime) -> int:
    """Counts the messages of the last week that should have ended or changed an alert, if alerts opened and none of
    these messages reached one: their ids differ from those of the alerts. 0 of a ticket system, whose tickets need not
    have an alert."""
    kind = load_kinds().get(integration.kind)
    if kind is None or kind.category is not Category.API or kind.assigns_source_agent:
        return 0
    messages = InboundMessage.objects.filter(integration=integration, pk__gte=first_uuid7(now - WEEK), test=False)
    messages = messages.filter(replay_of=None)
    has_reached = messages.filter(status__in=(MessageStatus.CLOSED, MessageStatus.UPDATED)).exists()
    if has_reached or not messages.filter(status=MessageStatus.OPENED).exists():
        return 0
    count = messages.filter(status=MessageStatus.IGNORED, reason__code__in=_WITHOUT_ALERT).count()
    return count if count >= _MIN_WITHOUT_ALERT else 0


_RECENT = """
WITH recent AS MATERIALIZED (
    SELECT id, received_at, status, source_id, source_status, alert_id, verdict ->> 'rule' AS rule
    FROM inbound_inboundmessage
    WHERE integration_id = %(integration)s AND id >= %(since)s AND NOT test AND replay_of IS NULL
    ORDER BY id DESC LIMIT %(limit)s)
"""

_COUNTED = database.literal(
    _RECENT
    + """
SELECT source_status, count(*), count(*) FILTER (WHERE received_at >= %(week)s), max(received_at)
FROM recent WHERE source_status <> '' GROUP BY source_status ORDER BY count(*) DESC, source_status LIMIT %(most)s
"""
)

# The first message of a ticket, if received in the last week and no later message of that ticket reached an alert.
_FIRST = database.literal(
    _RECENT
    + """,
first AS (
    SELECT DISTINCT ON (source_id) id, received_at, status, source_status, rule,
           bool_or(alert_id IS NOT NULL) OVER (PARTITION BY source_id) AS reached
    FROM recent WHERE source_id <> '' ORDER BY source_id, id)
SELECT m.source_status, m.raw, m.content_type
FROM (SELECT id FROM first WHERE NOT reached AND status = 'Mapped Ignored' AND rule IN ('update', 'none')
      AND received_at >= %(week)s ORDER BY id DESC LIMIT %(tickets)s) AS f
JOIN inbound_inboundmessage m ON m.id = f.id
"""
)


def _unopened(
    messages: Sequence[tuple[str, bytes, str]], normalizer: Normalizer, budget: MessageBudget
) -> dict[str, int]:
    """Counts, by status, new tickets that opened nothing and would open nothing with the current rules either."""
    counts: dict[str, int] = {}
    for status, raw, content_type in messages:
        opens_nothing = not status or action_of_status(normalizer, status) is StatusEffect.UPDATE
        if opens_nothing and reports_new_status(normalizer, decompress(raw), content_type, budget):
            counts[status] = counts.get(status, 0) + 1
    return counts


def reports_new_status(
    normalizer: Normalizer, raw: bytes, content_type: str, budget: MessageBudget | None = None
) -> bool:
    """Returns whether a message announces a new ticket. A first message with another event belongs to a ticket that is
    older than the integration, and says nothing about the rules."""
    try:
        elements = decode(raw, content_type, lenient=normalizer.kind.lenient).elements
    except Rejected:
        return False
    if not elements or (budget is not None and not budget.admits(elements[0])):
        return False
    event = normalizer.normalize(elements[0])
    return isinstance(event, NormalizedEvent) and is_new_ticket_event(event)


def _warning(statuses: tuple[ObservedStatus, ...], unopened: dict[str, int]) -> Reason:
    ticket_count = sum(unopened.values())
    if not ticket_count:
        return NO_REASON
    opens_some = any(status.does is StatusEffect.OPEN and status.count_week for status in statuses)
    most_frequent = sorted(unopened, key=lambda status: -unopened[status])[:3]
    return sentence(
        "In the last 7 days, {count} new ticket started with {statuses} and opened no alert. {remedy}",
        "In the last 7 days, {count} new tickets started with {statuses} and opened no alert. {remedy}",
        count=ticket_count,
        statuses=tuple(
            sentence('"{status}"', status=status) if status else sentence("no status") for status in most_frequent
        ),
        remedy=sentence("Set it to open an alert if someone should be paged.")
        if opens_some
        else sentence("No status seen in the last 7 days opens an alert. Choose the one that should page."),
    )
