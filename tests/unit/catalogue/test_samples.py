"""Every sample of every kind yields its expected outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from tocsin.catalogue.kinds import Category, Expectation, IntegrationKind, Sample, load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.config.normalizer import IntegrationDefinition, NormalizedEvent, Normalizer, compile_normalizer
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.fields import MappedFields
from tocsin.inbound.parsing.decode import elements_of

#: A kind that is the same as another has that one's samples, which are tried once.
ALL = [(kind, sample) for kind in load_kinds().values() if not kind.same_as for sample in kind.samples]


@dataclass(slots=True)
class SampleHarness:
    """What is live, in the smallest form in which the table of outcomes can be told."""

    live: set[str] = field(default_factory=set)
    newest: dict[str, datetime] = field(default_factory=dict)
    deliveries: set[str] = field(default_factory=set)

    def take(self, event: NormalizedEvent | Rejected) -> tuple[MessageStatus, str]:
        if isinstance(event, Rejected):
            return MessageStatus.FAILED, event.detail
        key = event.source_id or f"one of a kind {id(event)}"
        if event.delivery_id is not None and event.delivery_id in self.deliveries:
            return MessageStatus.IGNORED, "same delivery as message"
        if event.delivery_id is not None:
            self.deliveries.add(event.delivery_id)
        at = event.source_time
        if at is not None and key in self.newest and at < self.newest[key]:
            return MessageStatus.IGNORED, "arrived late"
        status, reason = self._decide(event, key)
        if at is not None and (status is not MessageStatus.IGNORED or event.action is EventAction.CLOSE):
            self.newest[key] = at
        return status, reason

    def _decide(self, event: NormalizedEvent, key: str) -> tuple[MessageStatus, str]:
        is_live = key in self.live
        reason = str(event.rule_match.reason)
        match event.action:
            case EventAction.OPEN if is_live and event.opens_first_only:
                return MessageStatus.UPDATED, reason
            case EventAction.OPEN if is_live:
                return MessageStatus.APPENDED, reason
            case EventAction.OPEN:
                verdict = event.check_filters()
                if not verdict.is_true:
                    return MessageStatus.IGNORED, str(verdict.reason)
                self.live.add(key)
                return MessageStatus.OPENED, reason
            case EventAction.CLOSE | EventAction.CANCEL if is_live:
                self.live.discard(key)
                return MessageStatus.CLOSED, reason
            case EventAction.CLOSE | EventAction.CANCEL:
                return MessageStatus.IGNORED, f"{reason}; nothing was open"
            case EventAction.UPDATE if is_live:
                return MessageStatus.UPDATED, reason
        return MessageStatus.IGNORED, reason


def post(
    desk: SampleHarness, reader: Normalizer, sample: Sample
) -> list[tuple[MessageStatus, str, MappedFields | None]]:
    try:
        elements = elements_of(reader.kind, sample.body, sample.content_type).elements
    except Rejected as refused:
        return [(MessageStatus.FAILED, refused.detail, None)]
    outcomes: list[tuple[MessageStatus, str, MappedFields | None]] = []
    for element in elements:
        event = reader.normalize(element)
        mapped = None if isinstance(event, Rejected) else event.mapped
        outcomes.append((*desk.take(event), mapped))
    return outcomes


@pytest.mark.parametrize(("kind", "sample"), ALL, ids=[f"{kind.name}-{sample.name}" for kind, sample in ALL])
def test_the_sample_ends_as_it_says(kind: IntegrationKind, sample: Sample) -> None:
    reader = compile_normalizer(kind, IntegrationDefinition(settings=sample.settings))
    by_name = {one.name: one for one in kind.samples}
    desk = SampleHarness()
    for name in sample.before:
        post(desk, reader, by_name[name])
    outcomes = post(desk, reader, sample)
    assert len(outcomes) == len(sample.expect)
    for (status, reason, mapped), expected in zip(outcomes, sample.expect, strict=True):
        assert status == expected.status, reason
        assert expected.reason in reason
        assert_fields(mapped, expected)


def assert_fields(mapped: MappedFields | None, expected: Expectation) -> None:
    if not expected.fields:
        return
    assert mapped is not None
    assert shown(mapped.values, expected.fields) == dict(expected.fields)


def shown(values: Mapping[str, object], names: Mapping[str, object]) -> dict[str, object]:
    """The named values as an expectation writes them: times as text, "" for nobody."""
    results = {name: values.get(name, "(no value)") for name in names}
    return {
        name: "" if value is None else value.isoformat() if isinstance(value, datetime) else value
        for name, value in results.items()
    }


def test_each_kind_has_samples_of_its_outcomes() -> None:
    for kind in load_kinds().values():
        seen = {expected.status for sample in kind.samples for expected in sample.expect}
        expected_value = {"Mapped Opened"} | ({"Mapped Closed"} if kind.rules.get("close") else set())
        if kind.category is not Category.HEARTBEAT:
            # Whatever a monitored sender says is a beat.
            expected_value.add("Mapping Failed")
        assert expected_value <= seen, (
            f"{kind.name} has no sample that ends as {', '.join(sorted(expected_value - seen))}"
        )
