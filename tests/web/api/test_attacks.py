"""Every operation, by every kind of caller, with bodies, queries and templates that name objects of the other side.

Nothing of that side may be in an answer, a message, an outbound request or a log, and nothing of it may change. What
names a hidden object is answered as if there were no such object.
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID

import pytest
from django.db.models import Model
from django.test import Client
from pytest_django import DjangoDbBlocker

from tests.doubles.ntfy import NtfyDouble
from tests.support.api_examples import EXAMPLES, ApiObjects, Example
from tests.support.company import make_user
from tests.support.postgres import DatabasePool, Postgres, filled
from tests.support.walls import Side, build_side, enforce_boundaries, open_alert
from tests.web.api.conftest import Company
from tests.web.api.test_permissions import NOUNS
from tocsin.access import boundary, tokens
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import ApiToken, AuditEntry
from tocsin.access.roles import UNLIMITED, TokenLimits, TokenScope
from tocsin.alerts.models import Alert
from tocsin.api.application import api
from tocsin.calls.models import CallRoute
from tocsin.core.runtime import clock
from tocsin.escalation.models import Policy
from tocsin.inbound.models import ClientTable, InboundMessage, Integration, MaintenanceWindow
from tocsin.notify.dispatch.dispatcher import DeliveryDispatcher
from tocsin.notify.models import Delivery, MailReply, Notification, PushDevice, SandboxMessage
from tocsin.oncall.models import (
    CalendarFeed,
    HandoverNote,
    HolidayCalendar,
    Override,
    Schedule,
    SupportHours,
    SwapRequest,
)
from tocsin.outbound.models import Call, OutboundIntegration
from tocsin.people.changes import users as people
from tocsin.people.changes.api_tokens import save_service_account
from tocsin.people.models import ContactMethod, Group, GroupContact, Membership, OutOfOffice, User
from tocsin.resources import visibility
from tocsin.workflows.models import Workflow, WorkflowRun

OURS, THEIRS, NOBODY = "qaoursq", "qbtheirsq", "qnobodyq"

#: A number that no object has.
NO_NUMBER = 987_654_321

#: Tells all about an alert, wherever a text may have placeholders.
TEMPLATE = "<subject> <long_text> <client> <source_id> <requester> <integration>"

#: The names by which a key of a body or a query refers to an object of the other side.
NAMES: Sequence[tuple[str, str]] = (
    (r"users?|username|instead_of|cover|owner|acknowledged_by", "r{}"),
    (r"groups?", "Group {}"),
    (r"schedules?", "Schedule {}"),
    (r"escalation_policy|policy", "Policy {}"),
    (r"integrations?", "Integration {}"),
    (r"outbound", "Outbound {}"),
    (r"client_table", "Table {}"),
    (r"holiday_calendars", "Calendar {}"),
    (r"support_hours|hours|during", "Hours {}"),
    (r"workflow", "Workflow {} opened"),
    (r"source", "Source {}"),
    (r"clients?", "Client {}"),
)
_NUMBERS = re.compile(r"alert|alert_id|into")
_TEXTS = re.compile(r"text|subject|body|note|message|summary|details|description|short_text|long_text")

#: What the last part of a path names, by the part before it: the model, and the lookup of the other side's rows.
IN_PATHS: Mapping[str, tuple[type[Model], str]] = {
    "alerts": (Alert, "subject__contains"), "audit-log": (AuditEntry, "actor_name__contains"),
    "call-routes": (CallRoute, "name__contains"),
    "calendar-feeds": (CalendarFeed, "owner__username__contains"), "calls": (Call, "integration__name__contains"),
    "client-alerts": (Alert, "subject__contains"), "client-tables": (ClientTable, "name__contains"),
    "contact-methods": (ContactMethod, "user__username__contains"), "contacts": (GroupContact, "label__contains"),
    "deliveries": (Delivery, "user__username__contains"), "escalation-policies": (Policy, "name__contains"),
    "groups": (Group, "name__contains"), "handovers": (HandoverNote, "text__contains"),
    "holiday-calendars": (HolidayCalendar, "name__contains"), "inbound-messages": (InboundMessage, "subject__contains"),
    "integrations": (Integration, "name__contains"), "mail-replies": (MailReply, "subject__contains"),
    "maintenance-windows": (MaintenanceWindow, "name__contains"), "members": (User, "username__contains"),
    "notifications": (Notification, "label__contains"), "out-of-office": (OutOfOffice, "note__contains"),
    "outbound-integrations": (OutboundIntegration, "name__contains"), "overrides": (Override, "name__contains"),
    "push-devices": (PushDevice, "name__contains"), "runs": (WorkflowRun, "workflow__name__contains"),
    "sandbox-messages": (SandboxMessage, "address__contains"), "schedules": (Schedule, "name__contains"),
    "support-hours": (SupportHours, "name__contains"), "swaps": (SwapRequest, "message__contains"),
    "tokens": (ApiToken, "name__contains"), "users": (User, "username__contains"),
    "workflows": (Workflow, "name__contains"), "buttons": (Workflow, "name__contains"),
}  # fmt: skip


@dataclass(frozen=True)
class Named:
    """What a request names: objects of the other side, or none that there are."""

    marker: str
    alert: int
    #: The number of an object of each kind in paths.
    numbers: Mapping[str, str]


#: Returns a request with a reference to what is named: its path and its body.
type Build = Callable[[Named], tuple[str, Any]]


@dataclass(frozen=True)
class Walls:
    """Both sides; ours is the company of the examples."""

    company: Company
    theirs: Side
    named: Named
    nobody: Named


@pytest.fixture(scope="module")
def database_pool(postgres: Postgres, template: str, django_db_blocker: DjangoDbBlocker) -> Iterator[DatabasePool]:
    def make() -> None:
        ours, _theirs = (build_side(marker, clock.now()) for marker in (OURS, THEIRS))
        # The names of the examples.
        for user, name in ((ours.manager, "mia"), (ours.responder, "bob"), (ours.observer, "olga")):
            User.objects.filter(pk=user.pk).update(username=name)
        make_user("alice", "admin")
        Membership.objects.create(group=ours.group, user=make_user("nadia", "responder"), roles=["primary"])
        spec = {"username": "acme", "email": "it@acme.example", "role": "observer", "clients": [f"Client {OURS}"]}
        people.save_user(spec, actor=COMMAND_LINE, now=clock.now())
        enforce_boundaries()

    with filled(postgres, template, django_db_blocker, make) as databases:
        yield databases


@pytest.fixture
def walls(database: str, imports_end: None) -> Walls:
    users = {user.username: user for user in User.objects.all()}
    people_of = [users[name] for name in ("alice", "mia", "bob", "olga", "nadia")]
    ours, group = Group.objects.get(name=f"Group {OURS}"), Group.objects.get(name=f"Group {THEIRS}")
    integration = Integration.objects.get(name=f"Integration {THEIRS}")
    names = [users[f"{letter}{THEIRS}"] for letter in "mro"]
    theirs = Side(THEIRS, names[0], names[1], names[2], group, integration, {})
    number = Alert.objects.filter(integration=integration, status="open").earliest("pk").pk
    rows = {
        noun: model._base_manager.filter(**{lookup: THEIRS}).earliest("pk")
        for noun, (model, lookup) in IN_PATHS.items()
    }
    named = Named(THEIRS, number, {noun: str(row.pk) for noun, row in rows.items()})
    none = {noun: str(UUID(int=1) if isinstance(row.pk, UUID) else NO_NUMBER) for noun, row in rows.items()}
    return Walls(Company(*people_of, ours, ours, clock.now()), theirs, named, Named(NOBODY, NO_NUMBER, none))


@dataclass(frozen=True)
class Asker:
    """Somebody of our side, with a token."""

    kind: str
    user: User
    secret: str


def _service_account(company: Company) -> User:
    spec = {"name": "bot", "role": "manager", "groups": [company.desk.name]}
    return save_service_account(spec, actor=COMMAND_LINE, now=clock.now())


#: Who asks: the owner of the token, and its limits.
CALLERS: Mapping[str, Callable[[Company], tuple[User, TokenLimits]]] = {
    "manager": lambda company: (company.mia, UNLIMITED),
    "responder": lambda company: (company.bob, UNLIMITED),
    "observer": lambda company: (company.olga, UNLIMITED),
    "client observer": lambda _company: (User.objects.get(username="acme"), UNLIMITED),
    "token of a group": lambda company: (company.mia, TokenLimits(TokenScope.ADMIN, frozenset({company.desk.pk}))),
    "token of a client": lambda company: (
        company.alice,
        TokenLimits(TokenScope.ADMIN, clients=frozenset({f"Client {OURS}"})),
    ),
    "service account": lambda company: (_service_account(company), UNLIMITED),
    "limited administrator": lambda company: (
        company.alice,
        TokenLimits(TokenScope.ADMIN, frozenset({company.desk.pk})),
    ),
}


def _asker(kind: str, company: Company) -> Asker:
    user, limits = CALLERS[kind](company)
    made = tokens.create(user, f"attack {kind}", limits=limits, actor=COMMAND_LINE, now=clock.now())
    return Asker(kind, user, made.secret)


def _value(key: str, alert: int, marker: str) -> Any:
    """What a key of that name is set to: an object of the other side, or one that is not there."""
    if _NUMBERS.fullmatch(key):
        return alert
    name = next((name for pattern, name in NAMES if re.fullmatch(pattern, key)), None)
    return name.format(marker) if name is not None else None


def _dicts(part: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all objects of a body."""
    if isinstance(part, dict):
        yield path
    entries = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, inner in entries:
        yield from _dicts(inner, (*path, key))


def _at(body: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        body = body[key]
    return body


def _in_path(route: str, path: str, body: Any) -> Iterator[Build]:
    """The request on each object of the other side that its path may name."""
    parts, variables = path.split("?")[0].split("/"), route.split("/")

    def build(index: int, noun: str) -> Build:
        return lambda named: ("/".join([*parts[:index], named.numbers[noun], *parts[index + 1 :]]), body)

    for index, variable in enumerate(variables):
        if variable.startswith("{") and variables[index - 1] in IN_PATHS:
            yield build(index, variables[index - 1])


def _in_query(path: str, parameters: Iterable[str]) -> Iterator[Build]:
    """The request with each of its query parameters."""

    def build(key: str) -> Build:
        joint = "&" if "?" in path else "?"
        return lambda named: (f"{path}{joint}{key}={quote(str(_value(key, named.alert, named.marker)))}", None)

    return (build(key) for key in parameters if _value(key, 0, "") is not None)


def _in_body(path: str, body: Any, keys: Sequence[str]) -> Iterator[Build]:
    """The request with one more reference to the other side, at each place of its body where it may have one."""

    def build(place: tuple[Any, ...], key: str, as_list: bool) -> Build:
        def make(named: Named) -> tuple[str, Any]:
            changed = copy.deepcopy(body)
            value = TEMPLATE if _TEXTS.fullmatch(key) else _value(key, named.alert, named.marker)
            _at(changed, place)[key] = [value] if as_list else value
            return path, changed

        return make

    for place in _dicts(body):
        for key in keys:
            here = _at(body, place).get(key)
            if isinstance(here, dict) or (isinstance(here, list) and here and isinstance(here[0], dict)):
                continue
            is_list = isinstance(here, list) or (here is None and key.endswith("s") and not _TEXTS.fullmatch(key))
            yield build(place, key, is_list)


def _document() -> Any:
    return json.loads(json.dumps(api.get_openapi_schema(), default=str))


def _keys(operation: Any, schemas: Any) -> list[str]:
    """The keys of an operation's body that may refer to something, at any depth, or are texts."""
    found: set[str] = set()
    seen: set[str] = set()

    def look(part: Any) -> None:
        if isinstance(part, list):
            for inner in part:
                look(inner)
        if not isinstance(part, dict):
            return
        if (reference := str(part.get("$ref", "")).rpartition("/")[2]) and reference not in seen:
            seen.add(reference)
            look(schemas.get(reference))
        found.update(part.get("properties", ()) if isinstance(part.get("properties"), dict) else ())
        for name, inner in part.items():
            if name != "example":
                look(inner)

    look(operation.get("requestBody", {}))
    return sorted(key for key in found if _value(key, 1, "") is not None or _TEXTS.fullmatch(key))


@dataclass
class Attack:
    """One caller's walk."""

    asker: Asker
    walls: Walls
    caplog: pytest.LogCaptureFixture
    server: str
    found: list[str] = field(default_factory=list)
    client: Client = field(default_factory=lambda: Client(raise_request_exception=False))

    def make(self, example: Example) -> tuple[str, Any]:
        """A request that works, for one of our side. Earlier ones may have changed the group, and put the same people
        on call."""
        company = self.walls.company
        Schedule.objects.filter(group=company.desk).exclude(name__contains=OURS).delete()
        for user in (company.mia, company.bob, company.olga, company.nadia):
            Membership.objects.get_or_create(group=company.desk, user=user, defaults={"roles": ["primary"]})
        # A service account has no shifts or devices: it asks about those of a person.
        person = company.mia if self.asker.user.is_service_account else self.asker.user
        return example(ApiObjects(company, person, company.desk, _opener(company), self.server))

    def send(self, method: str, path: str, body: Any) -> tuple[int, str]:
        """The status, and the answer with what was logged."""
        self.caplog.clear()
        data = b"" if body is None else json.dumps(body).encode()
        answer = self.client.generic(
            method, f"/api/v1/{path}", data, content_type="application/json",
            headers={"authorization": f"Bearer {self.asker.secret}"},
        )  # fmt: skip
        content = b"".join(answer.streaming_content) if answer.streaming else answer.content
        # A browser that an earlier test closed may be said to be gone at any time.
        records = [record for record in self.caplog.records if record.name != "asyncio"]
        logged = "\n".join(map(self.caplog.handler.format, records))
        return answer.status_code, content.decode(errors="replace") + logged

    def compare(self, name: str, build: Build) -> None:
        """Sends a request that names the other side, and the same with what is not there."""
        method, walls = name.partition(" ")[0], self.walls
        path, body = build(walls.named)
        status, text = self.send(method, path, body)
        sent = f"{unquote(path)} {json.dumps(body, default=str)}"
        said = f"{name} by {self.asker.kind} {sent}: {status}"
        if status >= 500 and status not in (502, 503):
            self.found.append(f"{said} {text[-300:]}")
        if (at := (rest := _without(text, _strings(sent))).find(THEIRS)) >= 0:
            self.found.append(f"{said} …{rest[max(0, at - 200) : at + 60]}")
        # That a Source is taken must be said, though not by whom.
        if 400 <= status < 500 and "shared_source" not in text:
            other, answer = self.send(method, *build(walls.nobody))
            if (other, _same(answer, walls)) != (status, _same(text, walls)):
                self.found.append(f"{said} is answered otherwise than an unknown name, {other}:\n{text}\n{answer}")


def _strings(sent: str) -> set[str]:
    """The names of the other side that a request contains."""
    return set(re.findall(rf"(?:(?:\b[A-Z]\w+ )|\b[mro]){THEIRS}(?: opened)?", sent))


def _without(text: str, sent: set[str]) -> str:
    for one in sorted(sent, key=len, reverse=True):
        for form in (one, quote(one), one.replace(" ", "+")):
            text = text.replace(form, "")
    return text


def _same(text: str, walls: Walls) -> str:
    """An answer without what the two requests differ by, and what every answer has of its own."""
    text = text.replace(THEIRS, "X").replace(NOBODY, "X")
    numbers = {
        str(number) for named in (walls.named, walls.nobody) for number in (named.alert, *named.numbers.values())
    }
    text = re.sub(rf"\b({'|'.join(sorted(numbers, key=len, reverse=True))})\b", "N", text)
    return re.sub(r"[Rr]equest \w{8}", "request", text)


def _opener(company: Company) -> Callable[..., int]:
    def make(subject: str = "VPN down", **columns: Any) -> int:
        key = columns.get("integration_id")
        integration = Integration._base_manager.get(pk=key) if key else None
        return open_alert(OURS, integration, (company.desk.pk,), clock.now() - timedelta(minutes=1), subject)

    return make


#: The order in which the short walk takes turns: those who may change something more often.
TURNS = (
    "limited administrator", "manager", "token of a group", "service account", "responder", "limited administrator",
    "manager", "token of a client", "service account", "client observer", "token of a group", "observer",
)  # fmt: skip


@pytest.mark.parametrize("noun", NOUNS)
def test_no_operation_reaches_what_its_request_names(
    noun: str, walls: Walls, ntfy: NtfyDouble, caplog: pytest.LogCaptureFixture
) -> None:
    """Each reference by one of the callers, in turns."""
    _attack(noun, dict.fromkeys(TURNS), itertools.cycle(TURNS), walls, ntfy, caplog)


@pytest.mark.long
@pytest.mark.parametrize("kind", CALLERS)
@pytest.mark.parametrize("noun", NOUNS)
def test_no_operation_by_anybody_reaches_what_its_request_names(
    noun: str, kind: str, walls: Walls, ntfy: NtfyDouble, caplog: pytest.LogCaptureFixture
) -> None:
    _attack(noun, [kind], itertools.cycle([kind]), walls, ntfy, caplog)


def _attack(
    noun: str,
    kinds: Iterable[str],
    turns: Iterator[str],
    walls: Walls,
    ntfy: NtfyDouble,
    caplog: pytest.LogCaptureFixture,
) -> None:
    visibility.enable()
    caplog.set_level(logging.DEBUG, logger="tocsin")
    attackers = {kind: Attack(_asker(kind, walls.company), walls, caplog, ntfy.url) for kind in kinds}
    before = _state_of(walls.theirs)
    document = _document()
    for name, example in EXAMPLES.items():
        method, _, route = name.partition(" ")
        if route.partition("/")[0] == noun:
            path = "/api/v1/" + re.sub(r"\{\w+:(\w+)\}", r"{\1}", route)
            operation = document["paths"][path][method.lower()]
            keys = _keys(operation, document["components"]["schemas"])
            _walk((attackers[kind] for kind in turns), name, example, operation, keys)
    found = [leak for attack in attackers.values() for leak in attack.found]
    assert not found, f"{len(found)}\n" + "\n".join(found[:40])
    assert _state_of(walls.theirs) == before
    _deliver()
    assert not _told(walls)


def _walk(attackers: Iterator[Attack], name: str, example: Any, operation: Any, keys: Sequence[str]) -> None:
    route = name.partition(" ")[2]
    parameters = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"]
    for number in itertools.count():
        attack = next(attackers)
        # What was done cannot be done again: the next one gets an object of its own.
        path, body = attack.make(example)
        builds = itertools.chain(_in_path(route, path, body), _in_query(path, parameters), _in_body(path, body, keys))
        build = next(itertools.islice(builds, number, None), None)
        if build is None:
            return
        attack.compare(name, build)


def _state_of(side: Side) -> dict[str, str]:
    """All that the side sees."""
    limit = visibility.boundary_of_user(side.manager)
    assert limit is not None
    with boundary.limited_to(limit):
        return {
            model.__name__: str(list(model.objects.order_by("pk").values()))  # type: ignore[attr-defined]
            for model in boundary.filters()
        }


def _deliver() -> None:
    """Sends, into the sandbox, what the requests have queued."""
    box = DeliveryDispatcher(now=clock.now, jitter=lambda: 0.0)
    while box.run_once():
        box.settle()
    box.settle()


def _told(walls: Walls) -> list[str]:
    """Messages to our side, and its calls, that say what only the other side knows."""
    words = tuple(f"{word} {THEIRS}" for word in ("one", "two", "three", "Long", "Note", "Caller", "Message", "Site"))
    ours = [user.pk for user in User.objects.exclude(username__contains=THEIRS)]
    rows: list[Any] = [
        *Notification._base_manager.filter(user__in=ours).values(),
        *SandboxMessage._base_manager.filter(user__in=ours).values(),
        *Call._base_manager.exclude(integration__name__contains=THEIRS).values(),
        *AuditEntry._base_manager.filter(group_id=walls.company.desk.pk).values(),
    ]
    return [str(row) for row in rows if any(word in str(row) for word in words)]


def test_the_walk_names_objects_of_most_kinds(database: str) -> None:
    """Else it would prove nothing."""
    document = _document()
    schemas = document["components"]["schemas"]
    with_body = [
        operation for path in document["paths"].values() for operation in path.values() if "requestBody" in operation
    ]
    keys = {key for operation in with_body for key in _keys(operation, schemas)}
    assert {"user", "users", "group", "groups", "schedule", "escalation_policy", "integrations", "outbound", "alert",
            "into", "client_table", "holiday_calendars", "workflow", "text", "subject"} <= keys  # fmt: skip
    assert len(NOUNS) > 25
