"""Two sides with boundaries: no byte of one side appears at any address for a viewer of the other."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from itertools import chain, product
from typing import Any
from urllib.parse import quote

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.db.models import Model
from django.test import Client
from django.urls import URLResolver, get_resolver
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_django import DjangoDbBlocker

from tests.support.company import make_user
from tests.support.form_data import filled as filled_form
from tests.support.postgres import DatabasePool, Postgres, filled
from tests.support.walls import Side, build_side, enforce_boundaries, open_alert
from tocsin.access import boundary, tokens
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.boundary import BoundedManager
from tocsin.access.models import AuditEntry
from tocsin.access.roles import UNLIMITED, TokenLimits, TokenScope
from tocsin.alerts.models import Acknowledgement, Alert
from tocsin.alerts.states import AlertStatus, CommandChannel
from tocsin.api.application import api
from tocsin.api.mcp_tools import TOOLS, Tool
from tocsin.core.config import settings_store
from tocsin.core.db import database as database_module
from tocsin.core.db.base import viewer_transaction
from tocsin.core.errors import Rejected
from tocsin.core.ids import uuid7
from tocsin.core.runtime import clock
from tocsin.escalation.commands import delete_policy, save_policy
from tocsin.escalation.models import Policy
from tocsin.inbound.models import ClientTable, InboundMessage, Integration
from tocsin.notify.inbound.responder_actions import press_button
from tocsin.notify.models import Notification
from tocsin.oncall.models import HolidayCalendar, Override, Schedule, SupportHours, SwapRequest
from tocsin.operate.checks.database import check_row_security
from tocsin.outbound.commands import save_outbound
from tocsin.outbound.models import Call, OutboundIntegration
from tocsin.people.changes import users as people
from tocsin.people.models import Group, Membership, User
from tocsin.resources import registry, visibility
from tocsin.web import sse
from tocsin.workflows.models import Workflow

OURS, THEIRS = "qaoursq", "qbtheirsq"

#: What a search for a part of the other side's marker sends: the answer repeats it, but never the whole marker.
PART = THEIRS[:-2]

#: Addresses that end the session, or belong to nobody.
SKIPPED = ("account/", "styleguide/", "api/v1/", ".well-known/", "mcp")

#: Models without a boundary: of the whole installation, or read only by the application itself.
UNBOUNDED = {
    "AlertText": "joined by a search of alerts", "MessageText": "joined by a search of messages",
    "ClientReport": "of administrators",
    "Provider": "of administrators", "ProviderHealth": "of administrators", "IdentityProvider": "of administrators",
    "ImportRun": "of administrators", "UnmatchedPost": "of administrators",
    "Audit": "of administrators", "Problem": "of administrators", "Node": "of administrators",
    "MailboxTrouble": "of administrators", "Setting": "of the installation", "Pause": "of the installation",
    "ServiceAccount": "of administrators", "ScimUser": "of administrators", "ScimGroup": "of administrators",
    "AuditForwarding": "of administrators", "AuditChain": "internal", "LinkedIdentity": "one's own only",
    "BrowserSession": "one's own only",
    "ConfigVersion": "internal", "ClockOffset": "internal", "ClockSeen": "internal", "DedupKey": "internal",
    "ProcessedDelivery": "internal", "RateWindow": "internal", "AwaitedReceipt": "internal", "Bundle": "internal",
    "Announced": "internal", "OpenReceipt": "internal", "MessageUpdate": "internal",
    "ChatConversation": "internal",
    "LastSent": "internal", "OptOut": "internal",
    "Origin": "internal", "PendingNotice": "internal",
    "ProcessedCallback": "internal", "PushKey": "internal", "Reminder": "internal", "SharedCacheEntry": "internal",
    "UsedCode": "internal", "VerificationCode": "internal",
}  # fmt: skip

SEARCH, CLIENT = f"?q={PART}", f"?client={PART}"

#: Lists, and the filters that each knows.
LISTS = {
    "/alerts/": (SEARCH, CLIENT, "?tab=closed"), "/inbound-log/": (SEARCH, CLIENT), "/search/": (SEARCH,),
    "/on-call/": ("?show=all", "?view=list"), "/on-call/calendar/": ("?show=all", "?view=list"),
    "/reports/": (CLIENT, "?by=client", "?by=group", "?by=person", "?by=integration"),
    "/reports/fairness/": ("?by=group",), "/sandbox/": (SEARCH,), "/audit-log/": (SEARCH,),
    "/maintenance/": ("?tab=past",), "/calls/routes/": (SEARCH,),
    "/calls/": ("?show=voicemail",), "/wall/": (CLIENT,), "/integrations/": (SEARCH,),
    "/outbound/2/log/": (SEARCH, "?show=all"), "/workflows/3/log/": (SEARCH, "?show=all"),
}  # fmt: skip
QUERIES = sorted({query for queries in LISTS.values() for query in queries})


@dataclass(frozen=True)
class MadeSides:
    """Two sides, and databases in which they are: making them takes longer than most of the tests."""

    databases: DatabasePool
    sides: tuple[Side, Side]


@pytest.fixture(scope="module")
def made_sides(postgres: Postgres, template: str, django_db_blocker: DjangoDbBlocker) -> Iterator[MadeSides]:
    sides: list[Side] = []

    def make() -> None:
        sides.extend(build_side(marker, clock.now()) for marker in (OURS, THEIRS))
        enforce_boundaries()

    with filled(postgres, template, django_db_blocker, make) as databases:
        yield MadeSides(databases, (sides[0], sides[1]))


@pytest.fixture(scope="module")
def database_pool(made_sides: MadeSides) -> DatabasePool:
    return made_sides.databases


@pytest.fixture
def sides(database: str, made_sides: MadeSides) -> tuple[Side, Side]:
    return copy.deepcopy(made_sides.sides)


def patterns(resolver: URLResolver | None = None, prefix: str = "") -> Iterator[str]:
    """Every route of the web interface."""
    for entry in (resolver or get_resolver()).url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from patterns(entry, route)
        elif not route.startswith(SKIPPED):
            yield route


def values(marker: str, variables: int, *, is_short: bool = False) -> dict[str, list[str]]:
    """What variable parts of an address may be, by converter. Both sides' rows are the first of their tables.

    Of those, the short walk takes one row of our side, and one of the other: the second of a table with a row for each
    side, the fourth of one with two or three.
    """
    messages = InboundMessage._base_manager.filter(subject__contains=marker).values_list("pk", flat=True)
    notifications = Notification._base_manager.filter(label__contains=marker).values_list("pk", flat=True)
    words = ["mapping", "rules", "routing", "accept", "response-times", "sla", "noise", "interruptions", "api", "http"]
    if is_short:
        numbers, rows, words = ((1, 2, 4) if variables == 1 else (1, 2)), 1, words if variables == 1 else words[:3]
    else:
        numbers, rows = range(1, 13 if variables == 1 else 7), 2
    return {
        "int": [str(number) for number in numbers],
        "uuid": [str(key) for key in (*messages[:rows], *notifications[:rows])], "slug": words, "str": [marker],
    }  # fmt: skip


def addresses(*, is_short: bool = False) -> Iterator[list[str]]:
    """The addresses of each route of the web interface, with the ids of both sides."""
    for route in patterns():
        kinds = re.findall(r"<(\w+):\w+>", route)
        template = re.sub(r"<\w+:\w+>", "{}", route)
        by_kind = values(THEIRS, len(kinds), is_short=is_short)
        yield ["/" + template.format(*combination) for combination in product(*(by_kind[kind] for kind in kinds))]


def addresses_of(ids: dict[str, list[str]]) -> Iterator[str]:
    """The addresses of all routes with one variable at most, with the ids given for their converters."""
    for route in patterns():
        match re.findall(r"<(\w+):\w+>", route):
            case []:
                yield f"/{route}"
            case [kind] if kind in ids:
                yield from ("/" + re.sub(r"<\w+:\w+>", value, route) for value in ids[kind])


def api_addresses() -> Iterator[str]:
    """Every GET of the OpenAPI document, with names and ids of both sides."""
    by_kind = values(THEIRS, 1)
    names = [f"r{THEIRS}", *by_kind["int"][:8], *by_kind["uuid"]]
    for path, operation in _api_gets():
        template = re.sub(r"\{\w+\}", "{}", path)
        for combination in product(names, repeat=len(_types(operation))):
            yield template.format(*(quote(name) for name in combination))


def short_api_addresses() -> Iterator[str]:
    """The same with one row of each kind that an address takes."""
    by_kind = values(THEIRS, 1, is_short=True)
    by_type = {"string": [f"r{THEIRS}", "2", *by_kind["uuid"]], "integer": by_kind["int"]}
    for path, operation in _api_gets():
        template = re.sub(r"\{\w+\}", "{}", path)
        for combination in product(*(by_type[kind] for kind in _types(operation))):
            yield template.format(*(quote(name) for name in combination))


def _api_gets() -> Iterator[tuple[str, Any]]:
    for path, operations in api.get_openapi_schema()["paths"].items():
        if "get" in operations:
            yield path, operations["get"]


def _types(operation: Any) -> list[str]:
    """The types of the variable parts of an operation's path."""
    parameters = operation.get("parameters", ())
    return [parameter["schema"]["type"] for parameter in parameters if parameter["in"] == "path"]


def content(response: Any) -> str:
    body = b"".join(response.streaming_content) if response.streaming else response.content
    return body.decode(errors="replace") + str(dict(response.headers))


def leaks(client: Client, address: str, **headers: str) -> str | None:
    """What is wrong with an answer: its status, or the text around the marker of the other side."""
    return leak_of(client.get(address, headers=headers), address)


def leak_of(response: Any, address: str) -> str | None:
    """The same of an answer that is there."""
    if response.status_code >= 500:
        return f"{address}: {response.status_code}"
    text = content(response)
    # "No group named …" repeats what was asked for.
    if (at := text.find(THEIRS)) >= 0 and THEIRS not in address:
        return f"{address}: {response.status_code} …{text[max(0, at - 100) : at + 60]!r}"
    return None


def signed_in(user: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


ROLES = ("manager", "responder", "observer")


def test_no_page_shows_the_other_side(sides: tuple[Side, Side]) -> None:
    """A row of each side at each route that answers a GET."""
    client, found = signed_in(sides[0].manager), []
    for first, *others in addresses(is_short=True):
        response = client.get(first)
        found.append(leak_of(response, first))
        if response.status_code != HTTPStatus.METHOD_NOT_ALLOWED:
            found += [leaks(client, address) for address in others]
    assert not (shown := list(filter(None, found))), report(shown)


@pytest.mark.long
@pytest.mark.parametrize("role", ROLES)
def test_no_page_at_all_shows_the_other_side(sides: tuple[Side, Side], role: str) -> None:
    client = signed_in(getattr(sides[0], role))
    found = [leak for address in chain.from_iterable(addresses()) if (leak := leaks(client, address))]
    assert not found, report(found)


def test_no_filter_or_search_shows_the_other_side(sides: tuple[Side, Side]) -> None:
    client = signed_in(sides[0].manager)
    asked = (path + query for path, queries in LISTS.items() for query in queries)
    found = [leak for address in asked if (leak := leaks(client, address))]
    assert not found, report(found)


@pytest.mark.long
def test_no_query_of_any_list_shows_the_other_side(sides: tuple[Side, Side]) -> None:
    client = signed_in(sides[0].manager)
    asked = (path + query for path in LISTS for query in QUERIES)
    found = [leak for address in asked if (leak := leaks(client, address))]
    assert not found, report(found)


def test_no_api_address_shows_the_other_side(sides: tuple[Side, Side]) -> None:
    assert_no_api_leaks(sides[0], "manager", short_api_addresses())


@pytest.mark.long
@pytest.mark.parametrize("role", ROLES)
def test_no_api_address_at_all_shows_the_other_side(sides: tuple[Side, Side], role: str) -> None:
    assert_no_api_leaks(sides[0], role, api_addresses())


def assert_no_api_leaks(side: Side, role: str, asked: Iterator[str]) -> None:
    client, token = Client(raise_request_exception=False), side.tokens[getattr(side, role).username]
    found = [leak for address in asked if (leak := leaks(client, address, authorization=f"Bearer {token}"))]
    assert not found, report(found)


#: The models of what forms and addresses name by a number, by the end of the field's name.
CHOICES: dict[str, type[Model]] = {
    "alert": Alert, "into": Alert, "group": Group, "groups": Group, "user": User, "users": User, "person": User,
    "instead_of": User, "cover": User, "policy": Policy, "schedule": Schedule, "schedules": Schedule,
    "integration": Integration, "integrations": Integration, "outbound": OutboundIntegration,
    "table": ClientTable, "client_table": ClientTable, "hours": SupportHours, "during": SupportHours,
    "escalation_policy": Policy, "alert_policy": Policy, "recipient_group": Group, "support_hours": SupportHours,
    "ticket_integration": OutboundIntegration,
    "calendars": HolidayCalendar, "holiday_calendars": HolidayCalendar, "workflow": Workflow,
}  # fmt: skip
NAME_COLUMNS = {Alert: "subject", User: "username"}


def their_numbers() -> dict[str, str]:
    """A number of the other side for each of them."""

    def number(model: type[Model]) -> str:
        is_theirs = {f"{NAME_COLUMNS.get(model, 'name')}__contains": THEIRS}
        return str(model._base_manager.filter(**is_theirs).earliest("pk").pk)

    return {key: number(model) for key, model in CHOICES.items()}


def tool_calls(tool: Tool) -> Iterator[dict[str, Any]]:
    """Arguments of a tool: what it requires, and each other one, with names and ids of both sides."""
    by_kind = values(THEIRS, 1, is_short=True)
    texts: list[Any] = [f"r{THEIRS}", "2", *by_kind["uuid"]]
    by_type = {"integer": [1, 2, 4], "string": texts}
    schema = tool.show()["inputSchema"]

    def choices(field: dict[str, Any]) -> list[Any]:
        types = {one.get("type") for one in field.get("anyOf", [field])}
        is_plain = not any("format" in one or "enum" in one for one in field.get("anyOf", [field]))
        return next((by_type[kind] for kind in types if kind in by_type and is_plain), [])

    required = schema.get("required", [])
    for chosen in product(*(choices(schema["properties"][name]) for name in required)):
        arguments = dict(zip(required, chosen, strict=True))
        yield arguments
        for name, field in schema["properties"].items():
            if name not in required:
                yield from ({**arguments, name: value} for value in choices(field))


@pytest.mark.parametrize("role", ["manager", "observer"])
def test_no_tool_of_an_assistant_shows_the_other_side(sides: tuple[Side, Side], role: str) -> None:
    user = getattr(sides[0], role)
    client, headers = (
        Client(raise_request_exception=False),
        {"Authorization": f"Bearer {sides[0].tokens[user.username]}"},
    )
    answered, leaked = set(), []
    for tool in TOOLS.values():
        for arguments in tool_calls(tool) if tool.changes is None else ():
            call = {"name": tool.name, "arguments": arguments}
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
            response = client.post(
                "/mcp", json.dumps(message), content_type="application/json", headers={"Host": "localhost", **headers}
            )
            if OURS in response.content.decode():
                answered.add(tool.name)
            leaked.append(leak_of(response, json.dumps(arguments)))
    assert not list(filter(None, leaked))
    assert answered >= {"list_alerts", "get_alert", "who_is_on_call", "simulate", "search_inbound_log", "noisy_sources"}


def test_no_query_of_any_page_names_the_other_side(sides: tuple[Side, Side]) -> None:
    """Each page with each number, and with the names, of the other side."""
    client, numbers, found, count = signed_in(sides[0].manager), their_numbers(), [], 0
    query = "&".join(f"{key}={number}" for key, number in numbers.items())
    query += f"&client=Client {THEIRS}&ticket=T{THEIRS}&by=group&from={numbers['workflow']}"
    for page in addresses_of({"int": ["1"], "uuid": []}):
        answer = client.get(f"{page}?{query}")
        count += answer.status_code == HTTPStatus.OK
        found.append(leak_of_names(answer, page))
    assert count > 60
    assert not (shown := list(filter(None, found))), report(shown)


def leak_of_names(response: Any, page: str) -> str | None:
    """What an answer says beyond the names that were asked for."""
    text = content(response)
    for name in (f"Client {THEIRS}", f"T{THEIRS}"):
        for form in (name, quote(name), quote(quote(name)), name.replace(" ", "+")):
            text = text.replace(form, "")
    at = text.find(THEIRS)
    return f"{page}: …{text[max(0, at - 100) : at + 60]!r}" if at >= 0 else None


def test_no_forged_choice_of_a_form_names_the_other_side(sides: tuple[Side, Side]) -> None:
    """Each guarded form of ours, with each choice in turn set to an object of theirs."""
    client, numbers, found, count = signed_in(sides[0].manager), their_numbers(), [], 0
    for page in list(addresses_of({"int": ["1"], "uuid": []})):
        answer = client.get(page)
        if answer.status_code != HTTPStatus.OK or "data-guard" not in (text := content(answer)):
            continue
        form = filled_form(text)
        for field in form:
            number = numbers.get(re.split(r"-(?:\d+-)?", field)[-1])
            if number is not None:
                count += 1
                found.append(leak_of(client.post(page, {**form, field: [number]}), f"{page} {field}={number}"))
    assert count > 20
    assert not (shown := list(filter(None, found))), report(shown)
    with boundary.limited_to(visibility.boundary_of_user(sides[0].manager)):
        named = [str(resource.spec(row)) for resource in registry.RESOURCES for row in resource.list_all()]
    assert not [spec for spec in named if THEIRS in spec]


#: Names of objects of the other side, by which the API finds them.
NAMES = tuple(
    f"{word} {THEIRS}"
    for word in ("Group", "Integration", "Policy", "Schedule", "Outbound", "Table", "Hours", "Calendar")
)


@pytest.mark.long
def test_no_change_by_the_api_reaches_the_other_side(sides: tuple[Side, Side]) -> None:
    manager = sides[0].manager
    names = (f"r{THEIRS}", *NAMES, f"Workflow {THEIRS} opened", f"Window {THEIRS} 12", *values(THEIRS, 1)["uuid"])
    headers = {"authorization": f"Bearer {sides[0].tokens[manager.username]}"}
    client, found = Client(raise_request_exception=False), []
    changes = AuditEntry._base_manager.exclude(action__in=["refused", "use"])
    before = changes.count()
    for path, operations in api.get_openapi_schema()["paths"].items():
        for method in operations.keys() & {"post", "put", "patch", "delete"} if "{" in path else ():
            for name in names:
                address = re.sub(r"\{\w+\}", quote(name), path)
                answer = client.generic(method.upper(), address, "{}", content_type="application/json", headers=headers)
                if not 400 <= answer.status_code < 500:
                    found.append(f"{method} {address}: {answer.status_code}")
    assert not found, report(found)
    assert changes.count() == before


def report(found: list[str]) -> str:
    return f"{len(found)} leaks\n" + "\n".join(found[:80])


def test_commands_on_the_other_side_are_not_found(sides: tuple[Side, Side]) -> None:
    ours, theirs = sides
    number = Alert.objects.filter(integration=theirs.integration).earliest("pk").pk
    client = signed_in(ours.manager)
    for kind in ("acknowledge", "assign", "close", "reply", "hold"):
        assert client.post(f"/alerts/{number}/{kind}").status_code == 404
    client.post("/alerts/bulk", {"alert": [number], "command": "close", "sure": "yes"})
    own = Alert.objects.filter(integration=ours.integration).earliest("pk").pk
    client.post(f"/alerts/{own}/merge", {"into": number})
    token = ours.tokens[ours.manager.username]
    for kind in ("acknowledge", "close", "reply"):
        answer = client.post(
            f"/api/v1/alerts/{number}/{kind}", '{"text": "x"}' if kind == "reply" else "{}",
            content_type="application/json", headers={"authorization": f"Bearer {token}"},
        )  # fmt: skip
        assert answer.status_code == 404
    assert Alert.objects.get(pk=number).status == AlertStatus.OPEN
    assert Alert.objects.get(pk=own).merged_into_id is None


def as_manager(side: Side) -> dict[str, str]:
    return {"authorization": f"Bearer {side.tokens[side.manager.username]}"}


def first_alert(side: Side) -> int:
    number: int = Alert._base_manager.filter(integration=side.integration).earliest("pk").pk
    return number


def sent(client: Client, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
    address = f"/api/v1/{path}"
    return client.generic(method, address, json.dumps(body), content_type="application/json", headers=headers)


#: What tells all about an alert, wherever a workflow or a call writes a text.
TEMPLATE = "<subject> <long_text> <client> <source_id> <url>"


def test_a_dry_run_tells_nothing_of_hidden_alerts(sides: tuple[Side, Side]) -> None:
    """The draft of the API, a saved workflow, its page, and the form."""
    ours, theirs = sides
    number, headers, client = first_alert(theirs), as_manager(ours), signed_in(ours.manager)
    actions = [{"do": "reply", "text": TEMPLATE}]
    draft = {"name": "x", "group": ours.group.name, "trigger": "opened", "actions": actions}
    saved = Workflow.objects.get(name=f"Workflow {OURS} opened")
    form = filled_form(client.get(f"/workflows/{saved.pk}/edit/").content.decode())
    answers = [
        sent(Client(), "POST", "workflows/test", {"alert": number, "workflow": draft}, headers),
        sent(Client(), "POST", f"workflows/{saved.pk}/test", {"alert": number}, headers),
        client.get(f"/workflows/{saved.pk}/?alert={number}"),
        client.post(f"/workflows/{saved.pk}/edit/", {**form, "do": "try", "alert": number}),
    ]
    assert [answer.status_code for answer in answers] == [400, 400, 200, 422]
    assert not [leak for number, answer in enumerate(answers) if (leak := leak_of(answer, f"way {number}"))]
    own = sent(Client(), "POST", "workflows/test", {"alert": first_alert(ours), "workflow": draft}, headers)
    assert f"Long {OURS}" in content(own)


@pytest.mark.parametrize("kind", ["http", "haloitsm"])
def test_no_call_carries_a_hidden_alert(sides: tuple[Side, Side], kind: str) -> None:
    ours, theirs = sides
    spec: dict[str, Any] = {"name": "Mine", "kind": kind, "group": ours.group.name}
    halo = {"base_url": "https://halo.example.com", "client_id": "x", "client_secret": "x"}
    spec |= {"url": "https://x.example", "body": TEMPLATE} if kind == "http" else halo
    outbound = save_outbound(spec, actor=COMMAND_LINE, now=clock.now())
    before = Call.objects.count()
    path, headers = f"outbound-integrations/{outbound.pk}/call", as_manager(ours)
    answers = [sent(Client(), "POST", path, {"alert": number}, headers) for number in (first_alert(theirs), 999_999)]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert Call.objects.count() == before
    assert sent(Client(), "POST", path, {"alert": first_alert(ours)}, headers).status_code == 200


def limited_token(*groups: Group, scope: TokenScope = TokenScope.CONFIGURE) -> dict[str, str]:
    """The headers of a token of an administrator, limited to these groups."""
    admin = make_user("alice", "admin")
    limits = TokenLimits(scope, frozenset(group.pk for group in groups))
    secret = tokens.create(admin, "limited", limits=limits, actor=COMMAND_LINE, now=clock.now()).secret
    return {"authorization": f"Bearer {secret}"}


def test_a_user_sees_the_alert_that_they_opened(sides: tuple[Side, Side]) -> None:
    """Also one for a single person, which notifies no group."""
    ours, _theirs = sides
    body = {"subject": "VPN down", "recipients": {"users": [ours.responder.username]}}
    answer = sent(Client(), "POST", "alerts", body, as_manager(ours))
    assert (answer.status_code, answer.json()["subject"]) == (201, "VPN down")
    assert Alert.objects.get(subject="VPN down").group_ids == [ours.group.pk]


def test_the_refusal_of_a_source_names_no_hidden_integration(sides: tuple[Side, Side]) -> None:
    ours, _theirs = sides
    spec = {"name": "Mine", "kind": "api", "group": ours.group.name, "mode": "dry_run", "source": f"Source {THEIRS}"}
    answer = sent(Client(), "POST", "integrations", spec, as_manager(ours))
    assert answer.json()["error"] == "shared_source"
    assert f"Integration {THEIRS}" not in content(answer)


def test_a_limited_token_shares_no_source_of_others(sides: tuple[Side, Side]) -> None:
    """Else a message to its own integration would close an alert of theirs."""
    ours, theirs = sides
    headers, policy = limited_token(ours.group), f"Policy {OURS}"
    spec = {"name": "Mine", "kind": "api", "group": ours.group.name, "escalation_policy": policy, "anyway": True}
    answer = sent(Client(), "POST", "integrations", {**spec, "source": theirs.integration.name}, headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "shared_source")
    own = sent(Client(), "POST", "integrations", {**spec, "source": ours.integration.name}, headers)
    assert own.json().get("error") != "shared_source"


def test_a_limited_token_shows_no_addresses_of_others(sides: tuple[Side, Side]) -> None:
    """A member whose addresses the token does not see, added to another group of it."""
    ours, _theirs = sides
    second = Group.objects.create(name="Second")
    Membership.objects.filter(group=ours.group, user=ours.observer).update(shows_addresses=False)
    body, headers = {"members": [{"user": ours.observer.username}]}, limited_token(ours.group, second)
    assert sent(Client(), "PATCH", f"groups/{second.pk}", body, headers).status_code == 200
    assert not Membership.objects.get(group=second).shows_addresses


def test_a_limited_token_adds_no_server_of_its_own(sides: tuple[Side, Side]) -> None:
    """Only administrators may have alerts sent to a chat server that nobody knows."""
    ours, _theirs = sides
    settings_store.set(settings_store.CHAT_SERVERS_BY, "admins")
    contacts = [{"label": "Chat", "channel": "chat", "address": "gotify://push.example/AbcdefghijKLMNO"}]
    answer = sent(Client(), "PATCH", f"groups/{ours.group.pk}", {"contacts": contacts}, limited_token(ours.group))
    assert (answer.status_code, answer.json()["error"]) == (400, "own_server")


def test_nothing_names_hidden_objects_that_use_ones_own(sides: tuple[Side, Side]) -> None:
    ours, theirs = sides
    policy = Policy.objects.get(group=ours.group)
    Integration.objects.filter(pk=theirs.integration.pk).update(policy=policy)
    Integration.objects.filter(pk=ours.integration.pk).update(policy=None)
    client = signed_in(ours.manager)
    page = f"/policies/{policy.pk}/"
    assert not [leak for path in ("", "edit/", "delete/") if (leak := leaks(client, page + path))]
    with boundary.limited_to(visibility.boundary_of_user(ours.manager)):
        with pytest.raises(Rejected) as caught:
            delete_policy(policy, actor=COMMAND_LINE, now=clock.now())
        assert caught.value.reason.code == "Can't delete {name}: it is used by {users} and {count} other."
        assert THEIRS not in str(caught.value.reason)
        steps = [{"notify": {"roles": ["secondary"]}, "after": "0m"}]
        theirs.integration.recipient_groups.clear()
        theirs.integration.recipient_users.clear()
        with pytest.raises(Rejected) as caught:
            save_policy(
                {"name": policy.name, "group": ours.group.name, "steps": steps}, existing=policy, actor=COMMAND_LINE,
                now=clock.now(),
            )  # fmt: skip
        assert THEIRS not in str(caught.value.reason)
        outbound = OutboundIntegration.objects.get()
        Integration._base_manager.filter(pk=theirs.integration.pk).update(outbound=outbound)
        with pytest.raises(Rejected) as caught:
            registry.OUTBOUND_INTEGRATIONS.delete(outbound, actor=COMMAND_LINE, now=clock.now())
        assert caught.value.reason.code == "Can't delete {name}: it is used by {count} object of another group."
    with pytest.raises(Rejected, match=f"Integration {THEIRS}"):
        delete_policy(policy, actor=COMMAND_LINE, now=clock.now())


def test_a_paged_user_sees_and_answers_that_alert_only(sides: tuple[Side, Side]) -> None:
    ours, theirs = sides
    paged, other = Alert.objects.filter(integration=theirs.integration, status="open").order_by("pk")[:2]
    now = clock.now()
    Notification.objects.create(
        id=uuid7(), alert=paged, user=ours.responder, purpose="page", channel="email", address="x", created_at=now
    )
    client = signed_in(ours.responder)
    assert client.get(f"/alerts/{paged.pk}/").status_code == 200
    assert client.get(f"/alerts/{other.pk}/").status_code == 404
    client.post(f"/alerts/{paged.pk}/acknowledge")
    assert Acknowledgement.objects.filter(alert=paged, user=ours.responder).exists()


def test_answers_by_message_stay_within_the_boundary(sides: tuple[Side, Side]) -> None:
    ours, theirs = sides
    foreign, paged, own = (
        Alert.objects.filter(integration=side.integration, status="open").order_by("pk")[index].pk
        for side, index in ((theirs, 0), (theirs, 1), (ours, 0))
    )
    Notification.objects.create(
        id=uuid7(), alert_id=paged, user=ours.responder, purpose="page", channel="sms", address="x",
        created_at=clock.now(),
    )  # fmt: skip
    done = [
        press_button(ours.responder.pk, number, "acknowledge", CommandChannel.CHAT, clock.now())[0].done_count
        for number in (foreign, paged, own)
    ]
    assert done == [0, 1, 1]


def test_an_alert_of_two_groups_is_shown_whole_to_both(sides: tuple[Side, Side]) -> None:
    ours, theirs = sides
    shared = Alert.objects.filter(integration=theirs.integration, status="open").earliest("pk")
    Alert.objects.filter(pk=shared.pk).update(group_ids=[theirs.group.pk, ours.group.pk])
    SwapRequest.objects.filter(requester=theirs.responder).update(requested_user=ours.responder)
    Override.objects.filter(user=theirs.manager).update(user=ours.responder)
    client, token = signed_in(ours.responder), ours.tokens[ours.responder.username]
    message = InboundMessage.objects.get(alert_id=shared.pk)
    pages = (
        f"/alerts/{shared.pk}/",
        f"/inbound-log/{message.pk}/",
        f"/alerts/{shared.pk}/why-not-notified/",
        "/me/shifts/",
    )
    for page in pages:
        assert client.get(page).status_code == 200, page
    text = content(client.get(f"/alerts/{shared.pk}/"))
    for name in ("Alert one", "Responder", "Workflow"):
        assert f"{name} {THEIRS}" in text
    asked = [*addresses_of({"int": [str(shared.pk)], "uuid": [str(message.pk), *values(THEIRS, 1)["uuid"]]})]
    asked += [f"/api/v1/{path}" for path in ("swaps", "overrides", f"alerts/{shared.pk}", f"alerts/{shared.pk}/events")]
    headers = {"authorization": f"Bearer {token}"}
    failed = [address for address in asked if client.get(address, headers=headers).status_code >= 500]
    assert not failed


def test_an_observer_acts_where_the_membership_says_responder(sides: tuple[Side, Side]) -> None:
    ours, _theirs = sides
    settings_store.set(settings_store.VISIBILITY, "everyone")
    number = Alert.objects.filter(integration=ours.integration, status="open").earliest("pk").pk
    client = signed_in(ours.observer)
    assert client.post(f"/alerts/{number}/acknowledge").status_code == 403
    Membership.objects.filter(user=ours.observer).update(role="responder")
    assert client.post(f"/alerts/{number}/acknowledge").status_code == 302
    assert Acknowledgement.objects.filter(alert=number, user=ours.observer).exists()


def test_the_stream_names_only_visible_alerts(sides: tuple[Side, Side]) -> None:
    ours, theirs = sides
    own = Alert.objects.filter(integration=ours.integration).earliest("pk").pk
    number = Alert.objects.filter(integration=theirs.integration).earliest("pk").pk
    limit = visibility.boundary_of_user(ours.manager)
    assert limit is not None
    topics = frozenset({"alerts", f"alert:{own}", f"alert:{number}"})
    assert sse._visible_topics(topics, limit, clock.now()) == {"alerts", f"alert:{own}"}


@pytest.fixture
def observer(sides: tuple[Side, Side]) -> User:
    """Somebody of the client on our side."""
    spec = {"username": "acme", "email": "it@acme.example", "role": "observer", "clients": [f"client {OURS}"]}
    return people.save_user(spec, actor=COMMAND_LINE, now=clock.now())


def test_a_client_observer_sees_own_alerts_and_nothing_internal(sides: tuple[Side, Side], observer: User) -> None:
    ours, theirs = sides
    client = signed_in(observer)
    own = Alert.objects.filter(integration=ours.integration, status="open").earliest("pk").pk
    foreign = Alert.objects.filter(integration=theirs.integration).earliest("pk").pk
    assert client.get("/").headers["Location"] == "/client/"
    assert f"Alert one {OURS}" in content(client.get("/client/"))
    assert f"Alert three {OURS}" in content(client.get("/client/history/"))
    assert client.get(f"/client/{foreign}/").status_code == 404
    shown = content(client.get(f"/client/{own}/"))
    assert f"Alert one {OURS}" in shown
    internal = (
        f"Responder {OURS}",
        f"Integration {OURS}",
        f"Group {OURS}",
        f"Long {OURS}",
        f"tag{OURS}",
        f"Note {OURS}",
    )
    pages = ("/client/", "/client/history/", f"/client/{own}/", "/reports/", "/reports/?by=person",
             "/reports/?by=group", "/reports/sla/", "/reports/response-times.csv?by=integration", "/me/",
             "/me/sign-ins/", "/reports/client/", f"/reports/client/?client=Client+{OURS}")  # fmt: skip
    for page in pages:
        answer = client.get(page)
        assert answer.status_code == 200, page
        text = content(answer)
        assert not [word for word in (*internal, THEIRS) if word in text], page
    for page in (
        "/groups/",
        "/on-call/",
        "/inbound-log/",
        "/reports/noise/",
        "/reports/nights.csv",
        "/search/?q=a",
        "/wall/",
    ):
        assert client.get(page).status_code == 404, page
    assert client.post(f"/alerts/{own}/close").status_code == 404


def test_a_client_observer_has_no_other_api(sides: tuple[Side, Side], observer: User) -> None:
    secret = tokens.create(observer, "own", limits=UNLIMITED, actor=COMMAND_LINE, now=clock.now()).secret
    client, headers = Client(), {"authorization": f"Bearer {secret}"}
    own = Alert.objects.filter(integration=sides[0].integration, status="open").earliest("pk").pk
    rows = client.get("/api/v1/client-alerts", headers=headers).json()["items"]
    assert {row["client"] for row in rows} == {f"Client {OURS}"}
    detail = client.get(f"/api/v1/client-alerts/{own}", headers=headers).json()
    assert [event["kind"] for event in detail["timeline"]] == ["opened"]
    for path in ("alerts", f"alerts/{own}", "groups", "users", "reports/noise", "reports/interruptions", "schedules"):
        assert client.get(f"/api/v1/{path}", headers=headers).status_code == 403, path
    figures = client.get("/api/v1/reports/response-times?by=person", headers=headers)
    assert figures.status_code == 200
    assert "Responder" not in content(figures)


def test_a_token_limited_to_a_group_sees_nothing_of_others(sides: tuple[Side, Side]) -> None:
    ours, _theirs = sides
    settings_store.set(settings_store.VISIBILITY, "everyone")
    make_user("alice", "admin")
    limits = TokenLimits(TokenScope.READ, frozenset({ours.group.pk}))
    admin = User.objects.get(username="alice")
    secret = tokens.create(admin, "limited", limits=limits, actor=COMMAND_LINE, now=clock.now()).secret
    client, headers = Client(), {"authorization": f"Bearer {secret}"}
    for path in ("alerts", "groups", "integrations", "inbound-messages", "reports/response-times?by=client"):
        text = content(client.get(f"/api/v1/{path}", headers=headers))
        assert OURS in text, path
        assert THEIRS not in text, path


def test_only_observers_may_have_clients(sides: tuple[Side, Side]) -> None:
    spec = {"username": "x", "email": "x@example.org", "role": "manager", "clients": ["Acme"]}
    with pytest.raises(Rejected) as caught:
        people.save_user(spec, actor=COMMAND_LINE, now=clock.now())
    assert caught.value.field == "clients"


def test_administrators_see_both_sides(sides: tuple[Side, Side]) -> None:
    make_user("alice", "admin")
    client = signed_in(User.objects.get(username="alice"))
    assert sum(bool(leaks(client, address)) for address in LISTS) > 10


def test_every_model_is_bounded_or_says_why_not() -> None:
    bounded = set(boundary.filters())
    models = {model for model in apps.get_models() if model.__module__.startswith("tocsin.")}
    assert {model.__name__ for model in models - bounded} == set(UNBOUNDED)
    assert all(isinstance(model.objects, BoundedManager) for model in bounded)  # type: ignore[attr-defined]


def test_the_database_itself_hides_the_other_side(sides: tuple[Side, Side]) -> None:
    ours, _theirs = sides
    assert visibility.enable()
    # Whose feed, pages and swap request are there.
    limit = visibility.boundary_of_user(ours.responder)
    assert limit is not None
    with boundary.limited_to(limit), connection.cursor() as cursor:
        for table in visibility.policies():
            cursor.execute(f"SELECT count(*), coalesce(string_agg(t::text, ''), '') FROM {table} t")
            count, text = cursor.fetchone()
            with boundary.unbounded():
                cursor.execute(f"SELECT EXISTS (SELECT FROM {table})")
                assert bool(count) == cursor.fetchone()[0], table
            assert THEIRS not in text, table
        with transaction.atomic():
            cursor.execute("SELECT count(*) FROM alerts_alert")
            # A report, which reads by another connection, may take longer than transactions may be idle.
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            assert cursor.fetchone() == ("75s",)
        # Also where the filter does not look up the alert again.
        with boundary.unbounded():
            numbers = list(Alert.objects.values_list("pk", flat=True))
            acknowledged = list(Acknowledgement.objects.values_list("alert", flat=True))
        listed = visibility.about_visible_alerts(Acknowledgement, numbers).values_list("alert", flat=True)
        assert set(listed) == set(acknowledged) & set(Alert.objects.values_list("pk", flat=True)) != set(acknowledged)
        with pytest.raises(LookupError, match="Notification"):
            visibility.about_visible_alerts(Notification, numbers)
        with transaction.atomic():
            cursor.execute("SELECT count(*) FROM alerts_alert")
            visible = cursor.fetchone()[0]
            with boundary.unbounded():
                cursor.execute("SELECT count(*) FROM alerts_alert")
            assert cursor.fetchone()[0] == 2 * visible
            cursor.execute("SELECT count(*) FROM alerts_alert")
            assert cursor.fetchone()[0] == visible
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*), current_user FROM alerts_alert")
        assert cursor.fetchone() == (2 * visible, "tocsin")
    count = "SELECT count(*) FROM alerts_alert"
    with boundary.limited_to(limit), viewer_transaction() as pooled:
        assert pooled.execute(count).fetchone() == (visible,)
    with viewer_transaction() as pooled:
        assert pooled.execute(count).fetchone() == (2 * visible,)


def test_a_migration_may_change_what_policies_depend_on(database: str) -> None:
    enforce_boundaries()
    assert visibility.enable()
    with transaction.atomic(), connection.cursor() as cursor:
        visibility.disable()
        cursor.execute("ALTER TABLE alerts_alert ALTER COLUMN client TYPE varchar(200)")
        cursor.execute("ALTER TABLE notify_delivery DROP COLUMN user_id")
        transaction.set_rollback(True)
    with database_module.connect(name="test") as pool_connection:
        assert not list(check_row_security(pool_connection))
        visibility.disable()
        assert list(check_row_security(pool_connection))
        visibility.enable()


def test_doctor_says_where_the_database_enforces_no_boundaries(sides: tuple[Side, Side]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP POLICY tocsin_boundary ON alerts_alert")
    with database_module.connect(name="test") as pool_connection:
        found = [finding.id for finding in check_row_security(pool_connection)]
        assert found == ["database.row_security"]
        assert visibility.enable()
        assert not list(check_row_security(pool_connection))


@pytest.mark.long
def test_random_requests_show_no_byte_of_the_other_side(sides: tuple[Side, Side]) -> None:
    ours, _theirs = sides
    chance, at = random.Random(7), clock.now() - timedelta(hours=1)
    for number in range(40):
        side = chance.choice(sides)
        integration = chance.choice((side.integration, None))
        group_ids = chance.choice(((), (side.group.pk,)))
        alert = open_alert(side.marker, integration, group_ids, at, f"Random {number} {side.marker}")
        Alert.objects.filter(pk=alert).update(owner=chance.choice((None, side.manager)))
    clients = [signed_in(user) for user in (ours.manager, ours.responder, ours.observer)]
    paths = [
        *chain.from_iterable(addresses()),
        *LISTS,
        *(f"/alerts/{number}/" for number in Alert.objects.values_list("pk", flat=True)),
    ]

    @settings(max_examples=10_000, deadline=None, database=None)
    @given(st.sampled_from(paths), st.sampled_from(("", *QUERIES)), st.sampled_from(clients))
    def ask(path: str, query: str, client: Client) -> None:
        assert leaks(client, path + query) is None

    ask()
