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
from tocsin.inbound.expressions.conditions import CompiledCondition, RuleMatch, compile_condition
from tocsin.inbound.expressions.mapped import MappedFields
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
        if self.cancel is not None and self.cancel.holds(payload, mapped):
            return EventAction.CANCEL, RuleMatch(True, self.cancel.reason(payload, mapped))
        if self.close is not None and self.close.holds(payload, mapped):
            return EventAction.CLOSE, RuleMatch(True, self.close.reason(payload, mapped))
        if self.open is not None and self.open.holds(payload, mapped):
            return EventAction.OPEN, RuleMatch(True, self.open.reason(payload, mapped))
        for sentence in self.ignore:
            if sentence.when.holds(payload, mapped):
                return EventAction.NONE, RuleMatch(False, sentence.reason)
        if self.update is not None and self.update.holds(payload, mapped):
            return EventAction.UPDATE, RuleMatch(True, self._update_reason(payload, mapped))
        return EventAction.NONE, RuleMatch(False, f"{_status(mapped)}: no rule matches")

    def may_open(self, payload: object, mapped: MappedFields) -> RuleMatch:
        """Returns whether the vetoes and filters let an alert open, with the reason."""
        for sentence in self.veto:
            if sentence.when.holds(payload, mapped):
                return RuleMatch(False, sentence.reason)
        if self.filters is None:
            return RuleMatch(True, "no filters")
        return self.filters.test(payload, mapped)

    def _update_reason(self, payload: object, mapped: MappedFields) -> str:
        said = self.update.reason(payload, mapped) if self.update is not None else ""
        return f"{_status(mapped)}: neither opens nor closes" if said == "always" else said


def _status(mapped: MappedFields) -> str:
    status = mapped.values.get("source_status")
    if type(status) is str:
        return f"status {quote(status)}"
    event = mapped.values.get("event")
    return f"no status, event {quote(event)}" if type(event) is str else "no status"


def compile_rules(
    rules: object, filters: object = None, fields: Iterable[str] = (), where: str = "rules"
) -> CompiledRules:
    """Compiles rules: each is a condition, except that `ignore` and `veto` are lists of {when, reason}.

    An omitted rule never matches. Raises Rejected("invalid_condition") with the field.
    """
    known = frozenset(fields)
    if rules is None:
        rules = {}
    if not isinstance(rules, Mapping):
        raise Rejected("invalid_condition", f"{where}: rules are {{open, close, update}}", where)
    for name in rules:
        if name not in _RULES:
            place = f"{where}.{str(name)[:40]}"
            raise Rejected("invalid_condition", f"{place}: unknown rule; one of {', '.join(_RULES)}", place)

    def rule(name: str) -> CompiledCondition | None:
        definition = rules.get(name)
        return (
            None
            if definition is None or definition is False
            else compile_condition(definition, f"{where}.{name}", known)
        )

    return CompiledRules(
        cancel=rule("cancel"),
        close=rule("close"),
        open=rule("open"),
        update=rule("update"),
        ignore=_sentences(rules.get("ignore"), f"{where}.ignore", known),
        veto=_sentences(rules.get("veto"), f"{where}.veto", known),
        filters=None if filters is True or filters in (None, {}) else compile_condition(filters, "filters", known),
    )


def _sentences(definition: object, where: str, fields: frozenset[str]) -> tuple[ReasonedCondition, ...]:
    if definition is None:
        return ()
    if not isinstance(definition, list | tuple):
        raise Rejected("invalid_condition", f"{where}: must be a list of {{when, reason}}", where)
    found: list[ReasonedCondition] = []
    for i, one in enumerate(definition):
        place = f"{where}[{i}]"
        reason = one.get("reason") if isinstance(one, Mapping) else None
        if not isinstance(one, Mapping) or set(one) != {"when", "reason"} or not isinstance(reason, str) or not reason:
            raise Rejected("invalid_condition", f"{place}: must be {{when, reason}}", place)
        found.append(ReasonedCondition(compile_condition(one["when"], f"{place}.when", fields), reason[:200]))
    return tuple(found)
