"""The examples of docs/how-to/general-api.md do what the guide says."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.config.normalizer import IntegrationDefinition, NormalizedEvent, compile_normalizer
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.parsing.decode import decode

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "general-api.md").read_text()
API = load_kinds()["api"]


def _posted(after: str) -> bytes:
    """The body of the first curl example below that heading."""
    match = re.search(r"-d '([^']+)'", GUIDE[GUIDE.index(f"## {after}") :])
    assert match is not None
    return match[1].encode()


def _events(body: bytes, definition: IntegrationDefinition | None = None) -> list[NormalizedEvent]:
    reader = compile_normalizer(API, definition or IntegrationDefinition())
    events = [reader.normalize(element) for element in decode(body, "application/json", lenient=API.lenient).elements]
    return [event for event in events if isinstance(event, NormalizedEvent)]


def _example_definition() -> IntegrationDefinition:
    match = re.search(r"```yaml\n(    mapping:.*?)```", GUIDE, re.DOTALL)
    assert match is not None
    written = YAML(typ="safe").load(StringIO(match[1]))
    return IntegrationDefinition(mapping=written["mapping"], rules=written["rules"], filters=written["filters"])


def test_the_first_example_opens_a_critical_alert() -> None:
    [event] = _events(_posted("2."))
    assert event.action is EventAction.OPEN
    assert event.source_id == "disk-7"
    assert event.mapped.values["priority"] == "critical"


def test_the_second_example_closes_what_the_first_opened() -> None:
    [opening], [closing] = _events(_posted("2.")), _events(_posted("3."))
    assert closing.action is EventAction.CLOSE
    assert closing.source_id == opening.source_id


def test_the_array_example_is_two_messages() -> None:
    assert [event.action for event in _events(_posted("Several"))] == [EventAction.OPEN, EventAction.CLOSE]


@pytest.mark.parametrize(
    ("field", "names"),
    [
        (field, re.findall(r"`([a-z_]+)`", names))
        for field, names in re.findall(r"^\| ([a-z ]+) \| ((?:`[a-z_]+`(?:, |:|(?= \|)))+)", GUIDE, re.MULTILINE)
    ],
)
def test_the_names_that_are_guessed_are_those_of_the_guide(field: str, names: list[str]) -> None:
    mapped = {"status": "source_status", "link": "source_url"}.get(field, field.replace(" ", "_"))
    text = "critical" if mapped == "priority" else "https://example.org/2026-11-25T03:00:00Z"
    moment = "2026-11-25T03:00:00Z"
    value = moment if mapped == "source_time" else text
    for name in names:
        body = f'{{"{name}": "{value}"}}'.encode()
        [event] = _events(body)
        assert event.mapped.values.get(mapped), f"{name} is not taken for the {field}"


def test_the_example_mapping_reads_the_example_payload() -> None:
    match = re.search(r"With that, `(.+?)` opens", GUIDE, re.DOTALL)
    assert match is not None
    [event] = _events(match[1].encode(), _example_definition())
    assert event.action is EventAction.OPEN
    assert event.check_filters().is_true
    assert event.mapped.values["subject"] == "HTTP on web1"
    assert event.mapped.values["priority"] == "critical"


def test_example_filter_ignores_the_test_environment() -> None:
    definition = _example_definition()
    [event] = _events(
        b'{"check": {"state": "CRITICAL"}, "environment": "test"}',
        IntegrationDefinition(
            mapping={"tags": {"environment": "environment"}}, rules=definition.rules, filters=definition.filters
        ),
    )
    assert not event.check_filters().is_true


def test_the_table_of_answers_names_every_outcome() -> None:
    assert set(re.findall(r"^\| 20\d \| `([A-Za-z ]+)` \|", GUIDE, re.MULTILINE)) == {str(s) for s in MessageStatus}


def test_non_json_body_is_rejected_with_location_as_documented() -> None:
    with pytest.raises(Rejected, match="line 2 column 11") as refused:
        decode(b'{"id": "disk-7",\n "title": }', "application/json", lenient=API.lenient)
    assert refused.value.code == "invalid_json"
