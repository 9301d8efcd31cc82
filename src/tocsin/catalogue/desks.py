"""How Tocsin writes to each ticket system: the file `outbound.toml` beside an inbound kind's `integration.toml`.

`outbound.NAME.toml` describes a second form of the same product, as the connector `KIND_NAME`. Recorded answers are in
`outbound.samples.json`. This module reads and checks the files; `tocsin.outbound.connectors.desk` carries them out.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from tocsin.catalogue.kinds import family, load_kinds
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Text
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import MISSING, NOT_AN_OBJECT, compile_path
from tocsin.core.validation.spec import InvalidValue, ListOf, OneOf, Parsed, Spec, SpecErrors, list_of

_METHODS: Final = ("GET", "POST", "PUT", "PATCH")
_MAX_TEXT: Final = 500

KINDS: Final = Path(__file__).parent / "kinds"

AUTH_KINDS: Final = ("basic", "bearer", "header", "client_credentials", "password")
#: The settings that a form of authentication takes, as templates of the file's own settings.
_AUTH_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "basic": ("username", "password"),
    "bearer": ("token",),
    "header": ("header", "token"),
    "client_credentials": ("token_path", "client_id", "client_secret"),
    "password": ("token_path", "client_id", "client_secret", "username", "password"),
}
#: Lists of a ticket system that a form offers.
LISTS: Final = ("status", "agent", "team", "priority", "ticket_type")
#: The parts of an entry of a list, in templates: `<status.number>` is a number in JSON, `<status.id>` is text.
_PARTS: Final = ("id", "number", "name")
#: What a template of each operation can use, besides the settings and what `before` has captured.
_TICKET: Final = frozenset({"ticket", "alert", "marker"})
_NOTE: Final = frozenset({"note", "note_html", "is_public", "is_private"})
_VALUES: Final[Mapping[str, frozenset[str]]] = {
    "create": frozenset(
        {"summary", "details", "details_html", "alert", "marker", "client", "site", "user",
         *(f"{one}.{part}" for one in ("team", "priority", "ticket_type") for part in _PARTS)}
    ),
    "note": _TICKET | _NOTE,
    "status": _TICKET | _NOTE | {f"status.{part}" for part in _PARTS},
    "close": _TICKET | _NOTE | {f"status.{part}" for part in _PARTS},
    "assign": _TICKET | {f"agent.{part}" for part in _PARTS},
    "unassign": _TICKET,
    "update": _TICKET | {f"{one}.{part}" for one in ("team", "priority") for part in _PARTS},
    "look_up_user": frozenset({"email"}),
    "look_up_ticket": frozenset({"alert", "marker"}),
    "look_up_note": _TICKET,
    "verify": frozenset(),
    "webhook": frozenset({"url", "name"}),
}  # fmt: skip
#: What each operation changes, as an event's settings call it.
_CHANGES: Final = {"note": ("note",), "status": ("status",), "assign": ("agent",)}

NOT_A_TEMPLATE = Text("uses <{name}>, which has no value here; there are {known}.")
NOT_A_PATH = Text("must begin with / and is added to the address.")
NOT_A_STATUS = Text("must be HTTP status codes, such as [200, 204].")
NEEDS_LOOK_UP = Text("is required: without it, a repeated request {risk}.")
NEEDS_ID = Text("is required: the path of the new ticket's id in the answer, such as <id>.")
NOT_IN_SAMPLE = Text('captures nothing: the recorded answer has no "{path}".')
NO_SAMPLE = Text("has no recorded answer: add it to {file} as {name}.")
UNUSED_SAMPLE = Text("belongs to no request of the file.")
NOT_FOR_AUTH = Text("is not used by {auth}; it takes {keys}.")
NO_SECRET = Text("must name one secret setting at least, so that credentials are stored encrypted.")
IS_COMMON = Text("is a key of every outbound integration; choose another name.")


def _body(value: object) -> object:
    if not isinstance(value, Mapping | list | str):
        raise InvalidValue(NOT_AN_OBJECT())
    return value


def _path(text: object) -> str:
    if not isinstance(text, str) or not text.startswith("/") or any(character.isspace() for character in text):
        raise InvalidValue(NOT_A_PATH())
    return text


def _statuses(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(one) is int and 100 <= one <= 599 for one in value):
        raise InvalidValue(NOT_A_STATUS())
    return tuple(value)


_Statuses = Annotated[tuple[int, ...], Parsed(_statuses, {"type": "array", "items": {"type": "integer"}})]
_Path = Annotated[str, Parsed(_path, {"type": "string", "pattern": "^/"})]
_Body = Annotated[Any, Parsed(_body, {"type": "object"})]
_Texts = Annotated[tuple[str, ...], list_of(str, {}, 300)]


def _text(description: str, default: str = "") -> Any:
    return Field(default=default, max_length=_MAX_TEXT, description=description)


class RowsSpec(Spec):
    """A request whose answer has rows, and how one is read: templates over a row, such as `<firstname> <lastname>`."""

    path: _Path | None = Field(default=None, description="Path of the request, a GET.")
    rows: str = _text("Path of the rows in the answer. Default: the answer itself.")
    where: dict[str, str] = Field(default={}, description="Only rows in which these paths have these values.")
    each: str = _text("Path of the rows within a row, such as the values of a field.")
    id: str = _text("Id of a row.", "<id>")
    name: str = _text("Name of a row; of tickets, their subject.", "<name>")
    email: str = _text("Email address of an agent.")
    text: str = _text("Of notes: the path of their text.")
    page: str = _text("Query parameter that counts pages.")
    offset: str = _text("Query parameter that counts rows.")
    next: str = _text("Path of the next page's URL in the answer.")
    first: int = Field(default=1, description="Number of the first page.")
    size: int = Field(default=100, description="Rows of a full page: one with fewer is the last.")
    entries: dict[str, str] = Field(default={}, description="Names by id, of a list that cannot be read.")


class BeforeSpec(Spec):
    """A request that comes before an operation, and the values it captures for it."""

    method: Annotated[str, OneOf(_METHODS)] = Field(default="GET", description="Method of the request.")
    path: _Path = Field(description="Path of the request.")
    body: _Body = Field(default=None, description="Body as an object; texts in it are templates.")
    rows: str = _text("Path of the rows in the answer, of which one is chosen. Default: the answer itself.")
    any_of: _Texts = Field(default=(), description="Paths in a row of which one must have the value `equals`.")
    equals: str = _text("Template of the value of a row that is chosen. Default: the first row.")
    capture: dict[str, str] = Field(default={}, description="Values for the operation: their paths in the row by name.")
    unless: dict[str, str] = Field(
        default={}, description="The operation is done already if these paths in the answer have these values."
    )
    offers: str = _text("Template of a row's name, for the error that no row fits.")


class RequestSpec(Spec):
    """One operation: a request, and what is read from its answer."""

    method: Annotated[str, OneOf(_METHODS)] = Field(default="POST", description="Method of the request.")
    path: _Path = Field(description="Path of the request, added to the address. Values in it are escaped.")
    body: _Body = Field(
        default=None,
        description="Body as an object; texts in it are templates. A text that is one value keeps its type, and what "
        "has no value is left out.",
    )
    headers: dict[str, str] = Field(default={}, description="Further headers.")
    success: _Statuses = Field(default=(), description="Statuses of success. Default: 200 to 299.")
    before: ListOf[BeforeSpec] = Field(default=(), description="Requests that come before.")
    id: str = _text("Of `create`: template of the new ticket's id in the answer, such as `<id>`.")
    name: str = _text("Of `verify`: template of the account's name in the answer.")
    capture: dict[str, str] = Field(default={}, description="Of a step of `webhook`: values for the next.")


class DeskSettingSpec(Spec):
    """A setting that the form asks for. Templates use it by its name."""

    title: str = Field(max_length=100, description="Label of the field.")
    help: str = _text("Help text.")
    default: str = _text("Default.")
    secret: bool = Field(default=False, description="Whether it is stored encrypted and never shown.")
    required: bool = Field(default=True, description="Whether it is required.")


class DeskAuthSpec(Spec):
    """How requests are authenticated. All values are templates of the settings."""

    kind: Annotated[str, OneOf(AUTH_KINDS)] = Field(description="Kind of authentication.")
    username: str = _text("For `basic` and `password`.")
    password: str = _text("For `basic` and `password`.")
    token: str = _text("For `bearer` and `header`.")
    header: str = _text("Name of the header, for `header`.")
    token_path: _Path | None = Field(
        default=None, description="Path that issues tokens, for `client_credentials` and `password`."
    )
    client_id: str = _text("For `client_credentials` and `password`.")
    client_secret: str = _text("For `client_credentials` and `password`.")
    scope: str = _text("Scope of the token.")

    def check(self, errors: SpecErrors) -> None:
        keys = _AUTH_KEYS.get(self.kind, ())
        for key in sorted(self.given_keys - {"kind", "scope", *keys}):
            errors.add(key, NOT_FOR_AUTH(auth=self.kind, keys=keys))
        for key in keys:
            if not getattr(self, key):
                errors.add(key, inputs.REQUIRED(), "missing")


class DeskErrorsSpec(Spec):
    """What a system's refusals mean, where they differ from HTTP."""

    hold: _Statuses = Field(default=(), description="Statuses at which everything waits for a person, besides 401.")
    temporary: _Statuses = Field(default=(), description="Statuses that are retried, besides 408, 429 and 5xx.")
    message: _Texts = Field(default=(), description="Paths of the explanation in the answer.")


class DeskSpec(Spec):
    """The file `outbound.toml`."""

    title: str = Field(max_length=100, description="Name of the product.")
    description: str = _text("What Tocsin writes there.")
    address: str = Field(max_length=_MAX_TEXT, description="Example of an address.")
    address_path: str = _text("Path of the API, added to the address.")
    rate: int = Field(default=5, ge=1, le=50, description="Requests a second, at most.")
    ticket_url: str = _text("Template of a ticket's address, with `<address>` and `<ticket>`.")
    confirmed: Annotated[str, OneOf(("server", "double"))] = Field(
        default="double", description="What the file was tried with: a real server, or a double of recorded answers."
    )
    max_summary: int = Field(default=200, ge=40, le=500, description="Characters of a new ticket's subject.")
    max_note: int = Field(default=10_000, ge=500, le=100_000, description="Characters of a note.")
    nobody: str = _text("Agent's id that stands for nobody; `null` for JSON's null. Default: `unassign`.")
    headers: dict[str, str] = Field(default={}, description="Headers of every request; templates of the settings.")
    settings: dict[str, DeskSettingSpec] = Field(description="Settings that the form asks for, by name.")
    auth: DeskAuthSpec = Field(description="How requests are authenticated.")
    errors: DeskErrorsSpec = Field(default=DeskErrorsSpec(), description="What refusals mean.")
    lists: dict[str, RowsSpec] = Field(
        default={}, description="Lists to choose from: `status`, `agent`, `team`, `priority`, `ticket_type`."
    )
    verify: RequestSpec = Field(description="Reads who Tocsin signs in as.")
    create: RequestSpec | None = Field(default=None, description="Creates a ticket.")
    note: RequestSpec = Field(description="Writes a note.")
    status: RequestSpec | None = Field(default=None, description="Changes the status.")
    close: RequestSpec | None = Field(default=None, description="As `status`, when the alert is closed.")
    assign: RequestSpec | None = Field(default=None, description="Sets the agent.")
    unassign: RequestSpec | None = Field(default=None, description="Removes the agent.")
    update: RequestSpec | None = Field(default=None, description="Changes team and priority.")
    look_up_user: RowsSpec | None = Field(default=None, description="Finds the agent with an email address.")
    look_up_ticket: RowsSpec | None = Field(
        default=None, description="Finds a ticket that an earlier attempt created, by what ends its subject."
    )
    look_up_note: RowsSpec | None = Field(
        default=None, description="Reads the notes of a ticket, for one that an earlier attempt wrote."
    )
    webhook: ListOf[RequestSpec] = Field(default=(), description="Steps that make the system call the webhook URL.")

    def check(self, errors: SpecErrors) -> None:
        for name in sorted(self.settings.keys() & _COMMON_KEYS):
            errors.add(f"settings.{name}", IS_COMMON())
        if not any(setting.secret for setting in self.settings.values()):
            errors.add("settings", NO_SECRET())
        for name in self.lists:
            if name not in LISTS:
                errors.add(f"lists.{name}", inputs.unknown_key(name, LISTS), "unknown_key")
        if self.create is not None and not self.create.id:
            errors.add("create.id", NEEDS_ID(), "missing")
        if self.create is not None and self.look_up_ticket is None:
            errors.add("look_up_ticket", NEEDS_LOOK_UP(risk="creates a second ticket"), "missing")
        if self.look_up_note is None:
            errors.add("look_up_note", NEEDS_LOOK_UP(risk="writes a note twice"), "missing")
        settings = {*self.settings, *(f"{name}.number" for name in self.settings), "address"}
        for key in _AUTH_KEYS.get(self.auth.kind, ()):
            _check_template(getattr(self.auth, key) or "", settings, f"auth.{key}", errors)
        for key, text in self.headers.items():
            _check_template(text, settings, f"headers.{key}", errors)
        _check_template(self.ticket_url, {"address", "ticket"}, "ticket_url", errors)
        # Credentials are for headers only: a path is logged.
        secrets = {name for name, one in self.settings.items() if one.secret}
        settings = {name for name in settings if name.removesuffix(".number") not in secrets}
        for name, known in _VALUES.items():
            match getattr(self, name):
                case RequestSpec() as request:
                    _check_request(request, settings | known, name, errors)
                case RowsSpec() as rows:
                    _check_rows(rows, settings | known, name, errors)
                case tuple() as steps:
                    known_so_far = settings | known
                    for index, step in enumerate(steps):
                        _check_request(step, known_so_far, f"{name}[{index}]", errors)
                        known_so_far |= step.capture.keys()
        for name, rows in self.lists.items():
            _check_rows(rows, settings, f"lists.{name}", errors)


#: The keys that every outbound integration has.
_COMMON_KEYS: Final = frozenset(
    {"name", "kind", "group", "enabled", "base_url", "agents", "sync", "create_ticket", "time_zone", "rate"}
)


def _check_request(request: RequestSpec, known: frozenset[str] | set[str], place: str, errors: SpecErrors) -> None:
    for index, before in enumerate(request.before):
        at = f"{place}.before[{index}]"
        for text in (before.path, before.equals, *before.unless.values(), *_texts_in(before.body)):
            _check_template(text, known, at, errors)
        for key, path in (*before.capture.items(), *((path, path) for path in (*before.any_of, *before.unless))):
            _check_payload_path(path, f"{at}.{'capture.' if key in before.capture else ''}{key}", errors)
        known = known | before.capture.keys()
    _check_template(request.path, known, f"{place}.path", errors)
    for text in _texts_in(request.body):
        _check_template(text, known, f"{place}.body", errors)
    for key, path in request.capture.items():
        _check_payload_path(path, f"{place}.capture.{key}", errors)


def _check_rows(rows: RowsSpec, known: frozenset[str] | set[str], place: str, errors: SpecErrors) -> None:
    if not rows.path and not rows.entries:
        errors.add(f"{place}.path", inputs.REQUIRED(), "missing")
    for text in (rows.path or "", *rows.where.values()):
        _check_template(text, known, f"{place}.path", errors)
    if rows.rows:
        _check_payload_path(rows.rows, f"{place}.rows", errors)


def _check_template(text: str, known: frozenset[str] | set[str], place: str, errors: SpecErrors) -> None:
    for name in sorted(inputs.references(text) - known):
        errors.add(place, NOT_A_TEMPLATE(name=name, known=tuple(sorted(known))))


def _check_payload_path(path: str, place: str, errors: SpecErrors) -> None:
    try:
        compile_path(path)
    except Rejected as rejected:
        errors.add(place, rejected.reason)


def _texts_in(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for item in value.values():
                yield from _texts_in(item)
        case list():
            for item in value:
                yield from _texts_in(item)


@dataclass(frozen=True, slots=True)
class Desk:
    """One ticket system as its file describes it."""

    name: str
    #: The inbound kind whose messages are its tickets.
    inbound: str
    spec: DeskSpec
    file: Path

    @property
    def label(self) -> str:
        """Its name in sentences."""
        return load_kinds()[self.inbound].source or self.spec.title

    @property
    def changes(self) -> frozenset[str]:
        """What an event can change of a ticket."""
        own = {change for name, changes in _CHANGES.items() if getattr(self.spec, name) for change in changes}
        texts = set(_texts_in(self.spec.update.body)) if self.spec.update else set()
        own |= {name for name in ("team", "priority") if any(f"<{name}." in text for text in texts)}
        return frozenset(own | ({"public"} if self._tells_public else set()))

    @property
    def _tells_public(self) -> bool:
        texts = [*_texts_in(self.spec.note.body)]
        return any(f"<{name}>" in text for text in texts for name in ("is_public", "is_private"))

    @property
    def creates_with(self) -> frozenset[str]:
        """The fields of a new ticket."""
        create = self.spec.create
        texts = set(_texts_in(create.body)) | {create.path} if create else set()
        used = {name for text in texts for name in inputs.references(text)}
        return frozenset(name.partition(".")[0] for name in used) & {
            "team", "priority", "ticket_type", "client", "site", "user",
        }  # fmt: skip

    @property
    def guide(self) -> str:
        """What to prepare in the system, as Markdown in its own words."""
        file = self.file.with_suffix(".md")
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    def samples(self) -> Mapping[str, Any]:
        """The recorded answers by request: `{"status": 200, "answer": …}`, and `refusals`."""
        file = self.samples_file
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    @property
    def samples_file(self) -> Path:
        return self.file.with_name(self.file.name.removesuffix(".toml") + ".samples.json")

    def requests(self) -> Iterator[tuple[str, RequestSpec | BeforeSpec | RowsSpec]]:
        """Every request that the file describes, by name."""
        for name in _VALUES:
            match getattr(self.spec, name):
                case RequestSpec() as request:
                    for index, before in enumerate(request.before):
                        yield f"{name}.before[{index}]", before
                    yield name, request
                case RowsSpec() as rows if rows.path:
                    yield name, rows
                case tuple() as steps:
                    yield from ((f"{name}[{index}]", step) for index, step in enumerate(steps))
        yield from ((f"lists.{name}", rows) for name, rows in self.spec.lists.items() if rows.path)


@cache
def load_desks() -> Mapping[str, Desk]:
    """Every ticket system that a file describes, by the name of its connector. Raises Rejected for a wrong file."""
    found = sorted(map(read_desk, desk_files(KINDS)), key=lambda desk: desk.spec.title.casefold())
    return {desk.name: desk for desk in found}


def desk_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/outbound*.toml"))


def read_desk(file: Path) -> Desk:
    """Reads one file. Raises Rejected, or RejectedAll, with the place of each problem."""
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        place = f"line {line[1] if line else 1}"
        raise Rejected("invalid", Text("{problem}")(problem=str(error)), place) from None
    suffix = file.name.removeprefix("outbound").removesuffix(".toml").replace(".", "_")
    return Desk(file.parent.name + suffix, file.parent.name, DeskSpec.read(data), file)


@cache
def ticket_kinds(connector: str) -> frozenset[str]:
    """The inbound kinds whose messages are this connector's tickets; none for a connector without tickets."""
    desk = load_desks().get(connector)
    name = desk.inbound if desk is not None else connector
    return family(name) if name in load_kinds() else frozenset()


def table() -> str:
    """What goes which way with each ticket system, as the Markdown table of the documentation."""
    columns = ("note", "public", "status", "agent", "team", "priority")
    head = ("ticket system", "`kind`", "opens and closes alerts", *columns, "new ticket", "webhook by Tocsin", "tried")
    rows = [head, tuple("---" for _ in head)]
    for desk in load_desks().values():
        mark = "✓" if desk.spec.confirmed == "server" else "d"
        offered = [mark if name in desk.changes else "–" for name in columns]
        made = [mark if present else "–" for present in (desk.spec.create, desk.spec.webhook)]
        tried = "real server" if desk.spec.confirmed == "server" else "double"
        rows.append((desk.spec.title, f"`{desk.name}`", "yes", *offered, *made, tried))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


# ---------- check
# Finds mistakes in a file before anybody relies on it: with its line, and what to do.


@dataclass(frozen=True, slots=True)
class FileProblem:
    file: Path
    line: int
    place: str
    reason: Reason


def check_files(folder: Path = KINDS) -> list[FileProblem]:
    """The problems of all files in a folder of kinds, or of one kind."""
    return [problem for file in files_to_check(folder) for problem in check_file(file)]


def files_to_check(folder: Path) -> list[Path]:
    return sorted({*desk_files(folder), *folder.glob("outbound*.toml")})


def check_file(file: Path) -> list[FileProblem]:
    text = file.read_text(encoding="utf-8")
    try:
        desk = read_desk(file)
    except Rejected as rejected:
        return [FileProblem(file, line_of(text, place), place, why) for place, why in rejected.field_reasons.items()]
    return [
        FileProblem(file, line_of(text, place), place, inputs.AT_PATH(path=place, problem=reason))
        for place, reason in _sample_problems(desk)
    ]


def _sample_problems(desk: Desk) -> Iterator[tuple[str, Reason]]:
    samples = desk.samples()
    requests = dict(desk.requests())
    for name in samples.keys() - requests.keys() - {"refusals"}:
        yield name, UNUSED_SAMPLE()
    for name, request in requests.items():
        paths = dict(_read_paths(request))
        if not paths:
            continue
        if name not in samples:
            yield name, NO_SAMPLE(file=desk.samples_file.name, name=f'"{name}"')
            continue
        answer = samples[name].get("answer")
        for key, path in paths.items():
            if not _has_value(answer, request, path):
                yield f"{name}.{key}", NOT_IN_SAMPLE(path=path)


def _read_paths(request: RequestSpec | BeforeSpec | RowsSpec) -> Iterator[tuple[str, str]]:
    """What is read from an answer: the paths by key."""
    match request:
        case RowsSpec():
            for key in ("id", "name", "email") if not request.text else ():
                yield from ((key, path) for path in sorted(inputs.references(getattr(request, key))))
            if request.text:
                yield "text", request.text
            yield from (("where", path) for path in request.where)
        case BeforeSpec():
            yield from ((f"capture.{key}", path) for key, path in request.capture.items())
            yield from (("unless", path) for path in request.unless)
        case RequestSpec():
            yield from ((f"capture.{key}", path) for key, path in request.capture.items())
            for key in ("id", "name"):
                yield from ((key, path) for path in sorted(inputs.references(getattr(request, key))))


def _has_value(answer: object, request: RequestSpec | BeforeSpec | RowsSpec, path: str) -> bool:
    if isinstance(request, RequestSpec) or (isinstance(request, BeforeSpec) and path in request.unless):
        return compile_path(path).read(answer) is not MISSING
    each = request.each if isinstance(request, RowsSpec) and path not in request.where else ""
    found = [inner for row in rows_of(answer, request.rows) for inner in (rows_of(row, each) if each else [row])]
    return any(compile_path(path).read(row) is not MISSING for row in found)


def rows_of(answer: object, path: str) -> Sequence[object]:
    """The rows at a path of an answer; an object without a path is one row."""
    found = compile_path(path).read(answer) if path else answer
    return found if isinstance(found, list) else [found] if isinstance(found, Mapping) else []


def line_of(text: str, place: str) -> int:
    """The line of a TOML file that says what is at a place, such as `note.before[0].path`, or the nearest above it."""
    if place.startswith("line "):
        return int(place.removeprefix("line "))
    best, best_length, table, seen = 1, 0, "", dict[str, int]()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[(\[?)\s*([^\]]+?)\s*\]", line):
            table = header[2].replace('"', "")
            if header[1]:
                seen[table] = seen.get(table, -1) + 1
                table = f"{table}[{seen[table]}]"
            key = table
        elif pair := re.match(r"\s*([\w.\"-]+)\s*=", line):
            key = f"{table}.{pair[1]}".replace('"', "").removeprefix(".")
        else:
            continue
        if len(key) > best_length and (place == key or place.startswith((f"{key}.", f"{key}["))):
            best, best_length = number, len(key)
    return best
