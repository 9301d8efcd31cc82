"""Rules that decide what a message requests (close, open, update, cancel, nothing), and whether an alert may open.
Pure.

Evaluation order: cancel, close, open, the kind's `ignore` rules, update. Filters and vetoes are evaluated only when an
alert would open, hence separately from `classify`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from tocsin.core.reasons import Reason, Term
from tocsin.core.validation.spec import Spec
from tocsin.core.validation.spec_types import ListOf, ParsedText
from tocsin.inbound.config.reasons import (
    CONFIGURED,
    NEITHER_OPENS_NOR_CLOSES,
    NO_FILTERS,
    NO_RULE_MATCHES,
    NO_STATUS,
    NO_STATUS_BUT_EVENT,
    STATUS,
)
from tocsin.inbound.expressions.conditions import CompiledCondition, Condition, RuleMatch, compile_condition
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


class ReasonedConditionSpec(Spec):
    """A condition with a fixed reason, for `ignore` and `veto`."""

    when: Condition = Field(description="Condition on the message.")
    # A kind's own reasons are translated like its other texts.
    reason: Annotated[Reason, ParsedText(lambda text, _info: CONFIGURED(reason=Term(text)), {}, 200)] = Field(
        description="Reason that is shown."
    )


class RulesSpec(Spec):
    """What a message requests. An omitted rule is that of the kind; without one, it never matches."""

    open: Condition | None = Field(default=None, description="When a message opens an alert.")
    close: Condition | None = Field(default=None, description="When it closes the alert.")
    update: Condition | None = Field(default=None, description="When it updates the alert.")
    cancel: Condition | None = Field(default=None, description="When it ends the alert as one that was none.")
    ignore: ListOf[ReasonedConditionSpec] = Field(
        default=(), description="When it does nothing, unless it opens, closes or cancels."
    )
    veto: ListOf[ReasonedConditionSpec] = Field(default=(), description="When it must not open an alert.")


_NO_FILTERS: Final = RuleMatch(True, NO_FILTERS())

#: The rules in evaluation order.
ORDER: Final = ("cancel", "close", "open", "ignore", "update")


@dataclass(frozen=True, slots=True)
class CompiledRules:
    """The compiled rules and filters of one integration."""

    cancel: CompiledCondition | None
    close: CompiledCondition | None
    open: CompiledCondition | None
    update: CompiledCondition | None
    ignore: tuple[ReasonedConditionSpec, ...]
    veto: tuple[ReasonedConditionSpec, ...]
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
            return EventAction.UPDATE, self._match_update(self.update, payload, mapped)
        return EventAction.NONE, RuleMatch(False, NO_RULE_MATCHES(status=_status(mapped)), is_decisive=False)

    def may_open(self, payload: object, mapped: MappedFields) -> RuleMatch:
        """Returns whether the vetoes and filters let an alert open, with the reason."""
        for veto_rule in self.veto:
            if veto_rule.when.matches(payload, mapped):
                return RuleMatch(False, veto_rule.reason)
        if self.filters is None:
            return _NO_FILTERS
        return self.filters.evaluate(payload, mapped)

    def _match_update(self, update: CompiledCondition, payload: object, mapped: MappedFields) -> RuleMatch:
        reason = update.reason(payload, mapped)
        if reason.code != ALWAYS.code:
            return RuleMatch(True, reason)
        return RuleMatch(True, NEITHER_OPENS_NOR_CLOSES(status=_status(mapped)), is_decisive=False)


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

    An omitted rule never matches. Raises Rejected with the field of each problem.
    """
    known_fields = frozenset(fields)
    if isinstance(rules, Mapping):
        rules = {name: rule for name, rule in rules.items() if rule is not False}
    spec = RulesSpec.read({} if rules is None else rules, field_path, fields=known_fields)
    return CompiledRules(
        cancel=spec.cancel,
        close=spec.close,
        open=spec.open,
        update=spec.update,
        ignore=spec.ignore,
        veto=spec.veto,
        filters=None
        if filters is True or filters in (None, {})
        else compile_condition(filters, "filters", known_fields),
    )
