"""What becomes of other products' documented bodies: in the type that one would paste them in, and at `api`.

Each file of `templates` has the documentation that its bodies follow (`source`), the type, the format of the bodies
(`json`, `form`, `xml` or `text`), a part of the alert's subject (or several, and those of other objects, `without`),
its `priority` if the body has one that needs no knowledge of the tool, and the bodies of a problem (`open`), of its end
(`over`; its id may be another if it is about the same), of a test, of what was done with a known alert (`news`, which
opens nothing) and of an everyday event (`daily`, low at most). Their values are made up. A file may be a list of such,
each with its `name`.

Those of `held_out` were written before anybody looked at what becomes of them, and nothing is changed for one of them:
only their figure counts. Those of `made_up` are of no tool: how a script, or a tool that nobody knows, may write it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.config.normalizer import IntegrationDefinition, NormalizedEvent, Normalizer, compile_normalizer
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.mapping.evidence import identity_of, is_about_same
from tocsin.inbound.parsing.decode import elements_of

WORKED_ON = Path(__file__).parent / "templates"
HELD_OUT = Path(__file__).parent / "held_out"
MADE_UP = Path(__file__).parent / "made_up"

_CONTENT_TYPES = {
    "json": "application/json",
    "form": "application/x-www-form-urlencoded",
    "xml": "application/xml",
    "text": "text/plain",
}


_BODY_NAMES = ("open", "over", "test", "news", "daily")


@dataclass(frozen=True, slots=True)
class Template:
    """The bodies of one product. `body_name` is one of `_BODY_NAMES`."""

    name: str
    kind: str
    titles: list[str]
    other_titles: list[str]
    priority: str | None
    format: str
    bodies: dict[str, Any]

    def body(self, body_name: str) -> bytes:
        match self.bodies[body_name], self.format:
            case str(text), _:
                return text.encode()
            case fields, "form":
                return urlencode(fields).encode()
            case fields, _:
                return json.dumps(fields).encode()


@dataclass(frozen=True, slots=True)
class Result:
    """What a body does at a type; `problem` is empty if that is right."""

    template: str
    body_name: str
    kind: str
    problem: str


@cache
def load_templates(folder: Path) -> tuple[Template, ...]:
    templates = []
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        templates += [_template(path.stem, data) for data in (content if isinstance(content, list) else [content])]
    return tuple(templates)


def _template(stem: str, data: dict[str, Any]) -> Template:
    return Template(
        data.get("name", stem),
        data["type"],
        [data["title"]] if isinstance(data["title"], str) else data["title"],
        data.get("without", []),
        data.get("priority"),
        data["format"],
        {name: data[name] for name in _BODY_NAMES if name in data},
    )


@cache
def measure(folder: Path) -> tuple[Result, ...]:
    """Posts every body of a folder to its type and to `api`."""
    return tuple(
        result
        for template in load_templates(folder)
        for kind in dict.fromkeys((template.kind, "api"))
        for result in _results(template, kind)
    )


def _results(template: Template, kind: str) -> Iterator[Result]:
    normalizer = compile_normalizer(load_kinds()[kind], IntegrationDefinition())
    opened = read(normalizer, template, "open") if "open" in template.bodies else None
    for body_name in template.bodies:
        event = opened if body_name == "open" and opened is not None else read(normalizer, template, body_name)
        match body_name:
            case "over":
                problem = _end_problem(event, opened)
            case "news" | "daily":
                problem = _quiet_problem(event, may_be_low=body_name == "daily")
            case _:
                problem = _open_problem(event, template, body_name)
        yield Result(template.name, body_name, kind, problem)


def read(normalizer: Normalizer, template: Template, body_name: str) -> NormalizedEvent | Rejected:
    """Returns the event of a body, or of the first of its messages."""
    try:
        element, *_ = elements_of(normalizer.kind, template.body(body_name), _CONTENT_TYPES[template.format]).elements
    except Rejected as rejected:
        return rejected
    return normalizer.normalize(element)


def _open_problem(event: NormalizedEvent | Rejected, template: Template, body_name: str) -> str:
    if isinstance(event, Rejected):
        return f"rejected: {event.code}"
    if event.action is not EventAction.OPEN or not event.check_filters().is_true:
        return f"{event.action}: {event.rule_match.reason}"
    subject = event.mapped.text("subject") or ""
    is_named = all(title in subject for title in template.titles)
    if body_name == "open" and (not is_named or any(title in subject for title in template.other_titles)):
        return f"subject {subject!r}"
    if body_name == "open" and template.priority not in {None, event.mapped.text("priority")}:
        return f"priority {event.mapped.text('priority')!r}"
    return "" if event.mapped.text("long_text") else "no long text"


def _quiet_problem(event: NormalizedEvent | Rejected, *, may_be_low: bool) -> str:
    if isinstance(event, Rejected):
        return f"rejected: {event.code}"
    is_quiet = event.action in (EventAction.UPDATE, EventAction.NONE)
    is_low = may_be_low and event.action is EventAction.OPEN and event.mapped.text("priority") == "low"
    return "" if is_quiet or is_low else f"{event.action}: {event.rule_match.reason}"


def _end_problem(event: NormalizedEvent | Rejected, opened: NormalizedEvent | Rejected | None) -> str:
    if isinstance(event, Rejected):
        return f"rejected: {event.code}"
    if event.action is not EventAction.CLOSE:
        return f"{event.action}: {event.rule_match.reason}"
    if not isinstance(opened, NormalizedEvent):
        return "nothing opened"
    is_found = event.is_ending_unknown and is_about_same(identity_of(opened.payload), identity_of(event.payload))
    if not is_found and (event.source_id is None or event.source_id != opened.source_id):
        return f"id {event.source_id!r} for {opened.source_id!r}"
    return ""
