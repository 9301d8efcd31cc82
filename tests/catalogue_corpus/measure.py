"""What becomes of every sample's mutations, by type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache

from tests.catalogue_corpus.mutations import mutations
from tocsin.catalogue.kinds import Category, Sample, load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.config.normalizer import IntegrationDefinition, NormalizedEvent, Normalizer, compile_normalizer
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.parsing.decode import elements_of

_ENDS = {EventAction.CLOSE, EventAction.CANCEL}


class Outcome(StrEnum):
    RIGHT = "as the sample"
    LOUD = "opened or refused aloud"
    #: An `ignore` rule or a filter of the type names the reason, or a ticket says that it is not new.
    EXPLAINED = "ignored for a reason"
    CLOSED = "closed"
    #: The sender's administrator sees nothing.
    SILENT = "silent"


@dataclass(slots=True)
class Figures:
    """The outcomes of one type's mutations, and the silent ones by sample and mutation."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    silent: list[str] = field(default_factory=list)


def measured_kinds() -> list[str]:
    """Returns the names of the types whose messages come from another tool."""
    return [kind.name for kind in load_kinds().values() if kind.category is Category.API and not kind.same_as]


def measure() -> dict[str, Figures]:
    """Returns the figures of each of them."""
    return {name: figures_of(name) for name in measured_kinds()}


@cache
def figures_of(name: str) -> Figures:
    """Returns the figures of one type."""
    kind = load_kinds()[name]
    figures = Figures()
    for sample in kind.samples:
        normalizer = compile_normalizer(kind, IntegrationDefinition(settings=sample.settings))
        for original, payload in _originals(normalizer, sample):
            for mutation in mutations(payload, original.mapped):
                outcome = _outcome(normalizer, original, mutation.body, mutation.content_type)
                figures.outcomes[outcome] += 1
                if outcome is Outcome.SILENT:
                    figures.silent.append(f"{sample.name}: {mutation.name}: {mutation.body.decode()[:300]}")
    return figures


def _originals(normalizer: Normalizer, sample: Sample) -> Iterator[tuple[NormalizedEvent, dict[str, object]]]:
    """Yields the messages of a sample that open or close."""
    try:
        elements = elements_of(normalizer.kind, sample.body, sample.content_type).elements
    except Rejected:
        return
    for element in elements:
        event = normalizer.normalize(element)
        if isinstance(event, NormalizedEvent) and element.payload is not None and _acts(event):
            yield event, element.payload


def _acts(event: NormalizedEvent) -> bool:
    return event.action in _ENDS or (event.action is EventAction.OPEN and event.check_filters().is_true)


def _outcome(normalizer: Normalizer, original: NormalizedEvent, body: bytes, content_type: str) -> Outcome:
    try:
        elements = elements_of(normalizer.kind, body, content_type).elements
    except Rejected:
        return Outcome.LOUD
    is_ticket = normalizer.kind.assigns_source_agent
    outcomes = {_outcome_of(original, normalizer.normalize(one), is_ticket=is_ticket) for one in elements}
    return next(outcome for outcome in Outcome if outcome in outcomes) if outcomes else Outcome.SILENT


def _outcome_of(original: NormalizedEvent, event: NormalizedEvent | Rejected, *, is_ticket: bool) -> Outcome:
    if isinstance(event, Rejected):
        return Outcome.LOUD
    if event.action is EventAction.OPEN and not event.check_filters().is_true:
        return Outcome.EXPLAINED
    if event.action is original.action and event.source_id == original.source_id:
        return Outcome.RIGHT
    match event.action:
        case EventAction.OPEN:
            return Outcome.LOUD
        case EventAction.CLOSE | EventAction.CANCEL:
            return Outcome.RIGHT if original.action in _ENDS else Outcome.CLOSED
        case _ if not event.is_understood:
            return Outcome.LOUD
        case _:
            # A ticket's event that is not about a new ticket, or its own status, says that it changed.
            is_change = event.mapped.text("event") or event.mapped.text("source_status")
            is_explained = event.rule_match.is_decisive or (is_ticket and is_change)
            return Outcome.EXPLAINED if is_explained else Outcome.SILENT
