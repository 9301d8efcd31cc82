"""Samples with new IDs: each sample of the catalogue is a new delivery of a new ticket with the same content."""

from __future__ import annotations

import pytest

from tocsin.catalogue.kinds import IntegrationKind, Sample, load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.admin.sample import with_fresh_ids
from tocsin.inbound.config.normalizer import IntegrationDefinition, NormalizedEvent, Normalizer, compile_normalizer
from tocsin.inbound.ingest_service import WebhookTestToken
from tocsin.inbound.parsing.decode import elements_of

KINDS = list(load_kinds().values())
ONE, OTHER = WebhookTestToken(1, 0xABCDEF0123456789), WebhookTestToken(1, 0x1234567890ABCDEF)

#: Ids that are not in the body: a heartbeat is one thing, whatever is sent, as is a webhook that was switched off.
#: That of a message that lacks its kind's id is made of its texts.
SAME_FOR_ALL = {"monitor", "webhook deactivated"}


def _read(reader: Normalizer, sample: Sample, body: bytes) -> list[NormalizedEvent | Rejected]:
    try:
        elements = elements_of(reader.kind, body, sample.content_type).elements
    except Rejected as problem:
        return [problem]
    return [reader.normalize(element) for element in elements]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_resent_sample_is_new_delivery_with_same_content(kind: IntegrationKind) -> None:
    for sample in kind.samples:
        reader = compile_normalizer(kind, IntegrationDefinition(settings=sample.settings))
        before = _read(reader, sample, sample.body)
        sent = [with_fresh_ids(reader, sample, test) for test in (ONE, OTHER)]
        first, second = (_read(reader, sample, body) for _, body in sent)
        assert len(before) == len(first) == len(second), sample.name
        for old, one, other in zip(before, first, second, strict=True):
            if not isinstance(old, NormalizedEvent):
                assert type(one) is type(other) is type(old), sample.name
                continue
            assert isinstance(one, NormalizedEvent), f"{sample.name}: {one}"
            assert isinstance(other, NormalizedEvent), f"{sample.name}: {other}"
            _differs(old, one, other, sample.name)
        if isinstance(first[0], NormalizedEvent):
            assert sent[0][0] == (first[0].source_id or ""), sample.name


def _differs(old: NormalizedEvent, one: NormalizedEvent, other: NormalizedEvent, name: str) -> None:
    assert one.action is other.action is old.action, name
    for field in ("priority", "source_status", "source_time", "severity"):
        assert one.mapped.values.get(field) == other.mapped.values.get(field) == old.mapped.values.get(field), name
    if old.source_id is not None and old.source_id not in SAME_FOR_ALL and old.is_understood:
        assert len({old.source_id, one.source_id, other.source_id}) == 3, name
    if old.delivery_id is not None:
        assert len({old.delivery_id, one.delivery_id, other.delivery_id}) == 3, name


def test_a_number_stays_a_number_and_a_guid_a_guid() -> None:
    kinds = load_kinds()
    halo, checks = kinds["haloitsm"], kinds["healthchecks"]
    source_id, _ = with_fresh_ids(compile_normalizer(halo, IntegrationDefinition()), halo.samples[0], ONE)
    assert source_id.isdecimal()
    assert int(source_id) > 2**32
    source_id, _ = with_fresh_ids(compile_normalizer(checks, IntegrationDefinition()), checks.samples[0], ONE)
    assert len(source_id) == 36
