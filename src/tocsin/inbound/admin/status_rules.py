"""What a status does under an integration's rules, and the rules after a user changes that. Pure.

A status gets a condition of its own, `source_status equals X`, so that the rules stay readable.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from tocsin.inbound.config.normalizer import Normalizer
from tocsin.inbound.config.rules import EventAction


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
