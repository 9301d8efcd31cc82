"""What becomes of other products' documented bodies: in the type that one would paste them in, and at `api`.

Each file of `templates` has the documentation that its bodies follow (`source`), the type, the format of the bodies
(`json`, `form`, `xml` or `text`), a part of the alert's subject, its `priority` if the body has one that needs no
knowledge of the tool, and the bodies of a problem (`open`), of its end (`over`) and of a test. Their values are
made up.

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
from tocsin.inbound.parsing.payload_splitting import elements_of

WORKED_ON = Path(__file__).parent / "templates"
HELD_OUT = Path(__file__).parent / "held_out"
MADE_UP = Path(__file__).parent / "made_up"

_CONTENT_TYPES = {
    "json": "application/json",
    "form": "application/x-www-form-urlencoded",
    "xml": "application/xml",
    "text": "text/plain",
}


@dataclass(frozen=True, slots=True)
class Template:
    """The bodies of one product. `body_name` is `open`, `over` or `test`."""

    name: str
    kind: str
    title: str
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
        data = json.loads(path.read_text(encoding="utf-8"))
        bodies = {name: data[name] for name in ("open", "over", "test") if name in data}
        templates.append(Template(path.stem, data["type"], data["title"], data.get("priority"), data["format"], bodies))
    return tuple(templates)


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
    opened = read(normalizer, template, "open")
    for body_name in template.bodies:
        event = opened if body_name == "open" else read(normalizer, template, body_name)
        problem = _end_problem(event, opened) if body_name == "over" else _open_problem(event, template, body_name)
        yield Result(template.name, body_name, kind, problem)


def read(normalizer: Normalizer, template: Template, body_name: str) -> NormalizedEvent | Rejected:
    """Returns the event of a body, which has one element."""
    try:
        (element,) = elements_of(normalizer.kind, template.body(body_name), _CONTENT_TYPES[template.format]).elements
    except Rejected as rejected:
        return rejected
    return normalizer.normalize(element)


def _open_problem(event: NormalizedEvent | Rejected, template: Template, body_name: str) -> str:
    if isinstance(event, Rejected):
        return f"rejected: {event.code}"
    if event.action is not EventAction.OPEN or not event.check_filters().is_true:
        return f"{event.action}: {event.rule_match.reason}"
    subject = event.mapped.text("subject") or ""
    if body_name == "open" and template.title not in subject:
        return f"subject {subject!r}"
    if body_name == "open" and template.priority not in {None, event.mapped.text("priority")}:
        return f"priority {event.mapped.text('priority')!r}"
    return "" if event.mapped.text("long_text") else "no long text"


def _end_problem(event: NormalizedEvent | Rejected, opened: NormalizedEvent | Rejected) -> str:
    if isinstance(event, Rejected):
        return f"rejected: {event.code}"
    if event.action is not EventAction.CLOSE:
        return f"{event.action}: {event.rule_match.reason}"
    if isinstance(opened, Rejected) or event.source_id is None or event.source_id != opened.source_id:
        return f"id {event.source_id!r} for {None if isinstance(opened, Rejected) else opened.source_id!r}"
    return ""
