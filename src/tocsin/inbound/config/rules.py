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
from tocsin.core.reasons import Reason, ReasonType, Term
from tocsin.core.validation.object_reader import AT_PATH
from tocsin.inbound.config.reasons import (
    CONFIGURED,
    NEITHER_OPENS_NOR_CLOSES,
    NO_FILTERS,
    NO_RULE_MATCHES,
    NO_STATUS,
    NO_STATUS_BUT_EVENT,
    STATUS,
)
from tocsin.inbound.expressions.conditions import CompiledCondition, RuleMatch, compile_condition
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.expressions.reasons import ALWAYS
from tocsin.inbound.expressions.text_format import one_line


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
    reason: Reason


_MUST_BE_RULES: Final = ReasonType("rule.must_be_rules", "must be {keys}")
_UNKNOWN_RULE: Final = ReasonType("rule.unknown", "unknown rule; one of {rules}")
_MUST_BE_LIST: Final = ReasonType("rule.must_be_list", "must be a list of {keys}")

_NO_FILTERS: Final = RuleMatch(True, NO_FILTERS())

#: How an `ignore` or `veto` rule is written.
_REASONED_KEYS: Final = "{when, reason}"

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
                return EventAction.NONE, RuleMatch(False, ignore_rule.reason)
        if self.update is not None and self.update.matches(payload, mapped):
            return EventAction.UPDATE, RuleMatch(True, self._update_reason(self.update, payload, mapped))
        return EventAction.NONE, RuleMatch(False, NO_RULE_MATCHES(status=_status(mapped)))

    def may_open(self, payload: object, mapped: MappedFields) -> RuleMatch:
        """Returns whether the vetoes and filters let an alert open, with the reason."""
        for veto_rule in self.veto:
            if veto_rule.when.matches(payload, mapped):
                return RuleMatch(False, veto_rule.reason)
        if self.filters is None:
            return _NO_FILTERS
        return self.filters.evaluate(payload, mapped)

    def _update_reason(self, update: CompiledCondition, payload: object, mapped: MappedFields) -> Reason:
        reason = update.reason(payload, mapped)
        return NEITHER_OPENS_NOR_CLOSES(status=_status(mapped)) if reason.code == ALWAYS.code else reason


def _status(mapped: MappedFields) -> Reason:
    status = mapped.values.get("source_status")
    if type(status) is str:
        return STATUS(status=one_line(status))
    event = mapped.values.get("event")
    return NO_STATUS_BUT_EVENT(event=one_line(event)) if type(event) is str else NO_STATUS()


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
        raise _rejection(field_path, _MUST_BE_RULES(keys="{open, close, update}"))
    for name in rules:
        if name not in _RULES:
            raise _rejection(f"{field_path}.{str(name)[:40]}", _UNKNOWN_RULE(rules=", ".join(_RULES)))

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
        raise _rejection(field_path, _MUST_BE_LIST(keys=_REASONED_KEYS))
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
            raise _rejection(entry_path, _MUST_BE_RULES(keys=_REASONED_KEYS))
        # A kind's own reasons are translated like its other texts.
        reason_of_rule = CONFIGURED(reason=Term(reason[:200]))
        conditions.append(
            ReasonedCondition(compile_condition(entry["when"], f"{entry_path}.when", fields), reason_of_rule)
        )
    return tuple(conditions)


def _rejection(field_path: str, problem: Reason) -> Rejected:
    return Rejected("invalid_condition", AT_PATH(path=field_path, problem=problem), field_path)
