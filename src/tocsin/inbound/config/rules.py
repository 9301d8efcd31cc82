"""Rules that decide what a message requests (close, open, update, cancel, nothing), and whether an alert may open.
Pure.

Evaluation order: cancel, close, open, the kind's `ignore` rules, update. Filters and vetoes are evaluated only when an
alert would open, hence separately from `classify`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, as_reason
from tocsin.inbound.expressions.conditions import CompiledCondition, RuleMatch, compile_condition
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.expressions.reasons import ALWAYS
from tocsin.inbound.expressions.text_format import quote


class EventAction(StrEnum):
    """What a message requests, regardless of whether there is an active alert."""

    OPEN = "open"
    CLOSE = "close"
    UPDATE = "update"
    CANCEL = "cancel"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ReasonedCondition:
    """A condition with a fixed reason, for `ignore` and `veto`."""

    when: CompiledCondition
    reason: str


#: The rules in evaluation order.
ORDER: Final = ("cancel", "close", "open", "ignore", "update")
_RULES: Final = ("open", "close", "update", "cancel", "ignore", "veto")


@dataclass(frozen=True, slots=True)
class CompiledRules:
    """The compiled rules and filters of one integration."""

    cancel: CompiledCondition | None
    close: CompiledCondition | None
    open: CompiledCondition | None
    update: CompiledCondition | None
    ignore: tuple[ReasonedCondition, ...]
    veto: tuple[ReasonedCondition, ...]
    filters: CompiledCondition | None

    def classify(self, payload: object, mapped: MappedFields) -> tuple[EventAction, RuleMatch]:
        """Returns what the message requests, with the rule and values that decided."""
        if self.cancel is not None and self.cancel.matches(payload, mapped):
            return EventAction.CANCEL, RuleMatch(True, self.cancel.reason(payload, mapped))
        if self.close is not None and self.close.matches(payload, mapped):
            return EventAction.CLOSE, RuleMatch(True, self.close.reason(payload, mapped))
        if self.open is not None and self.open.matches(payload, mapped):
            return EventAction.OPEN, RuleMatch(True, self.open.reason(payload, mapped))
        for ignore_rule in self.ignore:
            if ignore_rule.when.matches(payload, mapped):
                return EventAction.NONE, RuleMatch(False, as_reason(ignore_rule.reason))
        if self.update is not None and self.update.matches(payload, mapped):
            return EventAction.UPDATE, RuleMatch(True, self._update_reason(payload, mapped))
        return EventAction.NONE, RuleMatch(False, as_reason(f"{_status(mapped)}: no rule matches"))

    def may_open(self, payload: object, mapped: MappedFields) -> RuleMatch:
        """Returns whether the vetoes and filters let an alert open, with the reason."""
        for veto_rule in self.veto:
            if veto_rule.when.matches(payload, mapped):
                return RuleMatch(False, as_reason(veto_rule.reason))
        if self.filters is None:
            return RuleMatch(True, as_reason("no filters"))
        return self.filters.evaluate(payload, mapped)

    def _update_reason(self, payload: object, mapped: MappedFields) -> Reason:
        reason = self.update.reason(payload, mapped) if self.update is not None else NO_REASON
        return as_reason(f"{_status(mapped)}: neither opens nor closes") if reason.code == ALWAYS.code else reason


def _status(mapped: MappedFields) -> str:
    status = mapped.values.get("source_status")
    if type(status) is str:
        return f"status {quote(status)}"
    event = mapped.values.get("event")
    return f"no status, event {quote(event)}" if type(event) is str else "no status"


def compile_rules(
    rules: object, filters: object = None, fields: Iterable[str] = (), field_path: str = "rules"
) -> CompiledRules:
    """Compiles rules: each is a condition, except that `ignore` and `veto` are lists of {when, reason}.

    An omitted rule never matches. Raises Rejected("invalid_condition") with the field.
    """
    known_fields = frozenset(fields)
    if rules is None:
        rules = {}
    if not isinstance(rules, Mapping):
        raise Rejected("invalid_condition", f"{field_path}: rules are {{open, close, update}}", field_path)
    for name in rules:
        if name not in _RULES:
            rule_path = f"{field_path}.{str(name)[:40]}"
            raise Rejected("invalid_condition", f"{rule_path}: unknown rule; one of {', '.join(_RULES)}", rule_path)

    def rule(name: str) -> CompiledCondition | None:
        definition = rules.get(name)
        return (
            None
            if definition is None or definition is False
            else compile_condition(definition, f"{field_path}.{name}", known_fields)
        )

    return CompiledRules(
        cancel=rule("cancel"),
        close=rule("close"),
        open=rule("open"),
        update=rule("update"),
        ignore=_reasoned_conditions(rules.get("ignore"), f"{field_path}.ignore", known_fields),
        veto=_reasoned_conditions(rules.get("veto"), f"{field_path}.veto", known_fields),
        filters=None
        if filters is True or filters in (None, {})
        else compile_condition(filters, "filters", known_fields),
    )


def _reasoned_conditions(definition: object, field_path: str, fields: frozenset[str]) -> tuple[ReasonedCondition, ...]:
    if definition is None:
        return ()
    if not isinstance(definition, list | tuple):
        raise Rejected("invalid_condition", f"{field_path}: must be a list of {{when, reason}}", field_path)
    conditions: list[ReasonedCondition] = []
    for i, entry in enumerate(definition):
        entry_path = f"{field_path}[{i}]"
        reason = entry.get("reason") if isinstance(entry, Mapping) else None
        if (
            not isinstance(entry, Mapping)
            or set(entry) != {"when", "reason"}
            or not isinstance(reason, str)
            or not reason
        ):
            raise Rejected("invalid_condition", f"{entry_path}: must be {{when, reason}}", entry_path)
        conditions.append(
            ReasonedCondition(compile_condition(entry["when"], f"{entry_path}.when", fields), reason[:200])
        )
    return tuple(conditions)
