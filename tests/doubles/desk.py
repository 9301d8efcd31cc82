"""A double of any ticket system that a file describes, made of the answers recorded beside the file.

It keeps what is written: notes and tickets come back in the shapes of its look-ups, and it refuses what the recorded
refusals say.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tests.doubles.http import Request, Response
from tocsin.catalogue.desks import BeforeSpec, Desk, RequestSpec, RowsSpec
from tocsin.core.net.egress import EgressResponse
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import read_path

#: What a double answers instead, by the name of the request; None: as recorded.
type Instead = Callable[[str, Any], EgressResponse | None]


@dataclass
class DeskDouble:
    desk: Desk
    instead: Instead = lambda name, body: None
    #: What was written, in order, as name and body.
    writes: list[tuple[str, Any]] = field(default_factory=list)
    #: Everything that was asked, by name.
    asked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tickets: list[str] = field(default_factory=list)
    status: str = ""
    unknown: list[str] = field(default_factory=list)

    def request(self, method: str, url: str, **options: Any) -> EgressResponse:
        """As the HTTP client's."""
        path = re.sub(r"^https?://[^/]+", "", url).removeprefix(self.desk.spec.address_path)
        return self._answer(method, path, options.get("headers") or {}, options.get("content") or b"")

    def serve(self, request: Request) -> Response:
        """As a server on loopback."""
        path = request.path.removeprefix(self.desk.spec.address_path)
        answer = self._answer(request.method, path, request.headers, request.body)
        return Response(answer.status, answer.body, dict(answer.headers))

    def _answer(self, method: str, path: str, headers: Mapping[str, str], content: bytes) -> EgressResponse:
        if self.desk.spec.auth.token_path and path == self.desk.spec.auth.token_path:
            return _json(200, {"access_token": "a-token", "expires_in": 3600})
        body = json.loads(content) if content else None
        name = self._name(method, path, body)
        if name is None:
            self.unknown.append(f"{method} {path} {body}")
            return _json(404, {"error": "No such route"})
        self.asked.append(name)
        if answer := self.instead(name, body):
            return answer
        samples = self.desk.samples()
        for refusal in samples.get("refusals", ()):
            if refusal["request"] == name and _is_meant(refusal, body):
                return _json(refusal["status"], refusal["answer"])
        if method != "GET":
            self._keep(name, body)
        recorded = samples.get(name, {"answer": {}})
        return _json(recorded.get("status", 200), self._shaped(name, copy.deepcopy(recorded.get("answer"))))

    def _name(self, method: str, path: str, body: Any) -> str | None:
        for name, request in self.desk.requests():
            expected = "GET" if isinstance(request, RowsSpec) else request.method
            template = str(request.path)
            pattern = "".join(
                "[^/&?]*" if part.startswith("<") else re.escape(part) for part in re.split(r"(<[\w.^ ]+>)", template)
            )
            own = getattr(request, "body", None)
            if method == expected and re.fullmatch(f"{pattern}([?&].*)?", path) and (body is None or _fits(own, body)):
                return name
        return None

    def _keep(self, name: str, body: Any) -> None:
        self.writes.append((name, body))
        spec: RequestSpec | BeforeSpec = dict(self.desk.requests())[name]  # type: ignore[assignment]
        for reference, value in dict(_values(spec.body, body)).items():
            if reference in ("note", "note_html") and name == "note":
                self.notes.append(value)
            elif reference == "summary":
                self.tickets.append(value)
            elif reference == "status.name":
                self.status = value

    def _shaped(self, name: str, answer: Any) -> Any:
        """What was kept, in the shape of a recorded row."""
        rows: RowsSpec | None = getattr(self.desk.spec, name, None) if name.startswith("look_up") else None
        kept = {"look_up_note": self.notes, "look_up_ticket": self.tickets}.get(name)
        if rows is None or kept is None:
            return answer
        (one, *_) = read_path(answer, rows.rows) if rows.rows else answer  # type: ignore[misc]
        path = rows.text or next(iter(sorted(inputs.references(rows.name))))
        made = [_put(copy.deepcopy(one), path, text) for text in kept]
        return _put(answer, rows.rows, made) if rows.rows else made


def _json(status: int, payload: Any) -> EgressResponse:
    body = b"" if payload is None else json.dumps(payload).encode()
    return EgressResponse(status, {"content-type": "application/json"}, body)


def _put(payload: Any, path: str, value: Any) -> Any:
    *parents, last = path.split("^")
    place = payload
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place[key]
    if isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return payload


def _fits(template: Any, body: Any) -> bool:
    """Whether a body was made of a template: what had no value is left out."""
    match template, body:
        case (Mapping(), Mapping()):
            return all(key in template and _fits(template[key], value) for key, value in body.items())
        case (list(), list()):
            return len(body) <= len(template) and all(any(_fits(one, item) for one in template) for item in body)
        case (str(), _):
            return bool(inputs.references(template)) or template == body
        case _:
            return bool(template == body)


def _values(template: Any, body: Any) -> Any:
    match template, body:
        case (Mapping(), Mapping()):
            for key, value in body.items():
                yield from _values(template[key], value)
        case (list(), list()):
            for item in body:
                yield from (pair for one in template if _fits(one, item) for pair in _values(one, item))
        case (str(), str()):
            yield from ((name, unquote(body)) for name in inputs.references(template))


def _is_meant(refusal: Mapping[str, Any], body: Any) -> bool:
    when = refusal.get("when", {})
    missing = refusal.get("missing", ())
    return all(read_path(body, path.replace(".", "^")) == value for path, value in when.items()) and all(
        read_path(body, path.replace(".", "^")) is None for path in missing
    )
