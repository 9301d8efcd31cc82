"""What is fuzzed. Each target reads one input as Tocsin does, and raises on anything but a result or a declared
rejection."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

from tests.doubles import saml
from tests.fuzz import http
from tests.fuzz.inputs import Input, read
from tests.support.vendor_callbacks import VENDORS, body_of, handle_signed
from tocsin.catalogue.kinds import load_kinds
from tocsin.configure import yaml_loader
from tocsin.core.errors import Rejected
from tocsin.core.validation.spec import InvalidValue
from tocsin.identity.saml import Addressee, check_response, read_assertion, read_metadata, signed_assertion
from tocsin.inbound.config.compiled_integration import CompiledIntegration, Credentials, ReferenceDirectory
from tocsin.inbound.config.normalizer import IntegrationDefinition, Normalizer, compile_normalizer
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.inspect import explain
from tocsin.inbound.parsing import mime_parser
from tocsin.inbound.parsing.decode import Element, elements_of
from tocsin.notify.inbound.mail_parser import parse_reply
from tocsin.notify.text.formatting import parse_command, plain, safe_html
from tocsin.oncall.calendars import ical
from tocsin.simulate.backtest import ReplayedMessage, ReplayState

AT = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
CORPUS = Path(__file__).with_name("corpus")
#: What mutations put in.
TOKENS = Path(__file__).with_name("tokens")
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    #: Raises AssertionError or any other undeclared error.
    run: Callable[[Input], object]
    #: Inputs to begin with, besides those of the corpus.
    seeds: Callable[[], Sequence[Input]]
    #: What mutations put in.
    tokens: tuple[bytes, ...]
    needs_database: bool = False

    def corpus(self) -> dict[str, Input]:
        """The kept inputs by file name. A file's first line is the variant."""
        files = sorted((CORPUS / self.name).glob("*"))
        return {file.name: read(file.read_bytes()) for file in files}


# --- messages: decode → decide

_TYPES = ("", "application/json", "application/x-www-form-urlencoded", "application/xml", "message/rfc822",
          "multipart/form-data; boundary=b", "text/plain; charset=utf-16")  # fmt: skip

_OWN = IntegrationDefinition(
    mapping={
        "subject": {"template": "<status> of <field:client>: <a^*>"},
        "client": ["a^b", "host", {"path": "0^a", "only": "words"}],
        "tags": {"rack": {"path": "b^0", "map": {"1": "one"}, "else": "<value>?"}},
        "source_id": "id",
    },
    filters={"any": [{"field": "client", "operator": "matches", "value": "^a"}, {"field": "a", "operator": "exists"}]},
    routes=[{"when": {"field": "^a^b", "operator": "less than", "value": 5}, "action": "record"}],
    dedup_key="<a>/<source_id>",
    delay={"alerts": 2, "within": "10m"},
    grouping={"by": "<field:client>", "within": "15m"},
    flapping={"alerts": 2, "within": "20m", "stable": "3m"},
)  # fmt: skip


@cache
def _integration(variant: str) -> CompiledIntegration:
    kind, _, is_own = variant.partition("+")
    definition = _OWN if is_own else IntegrationDefinition()
    normalizer: Normalizer = compile_normalizer(load_kinds()[kind], definition)
    return CompiledIntegration(
        1, "Monitoring", "Monitoring", IntegrationMode.PAGE, normalizer, None, {}, None, (), (), Credentials(),
        ReferenceDirectory(),
    )  # fmt: skip


def _run_message(case: Input) -> None:
    """Two times the same: what opened is appended to, delayed, or a duplicate."""
    name, _, content_type = case.variant.partition(" ")
    integration = _integration(name)
    normalizer, state, numbers = integration.normalizer, ReplayState(integration), count(1)
    elements: Sequence[Element | Rejected]
    try:
        elements = elements_of(normalizer.kind, case.body, content_type or None).elements
        assert elements
    except Rejected as error:
        assert error.detail
        elements = [error]
    for minute, element in enumerate([*elements[:20], *elements[:20]]):
        at = AT + timedelta(minutes=minute)
        state.process_due(at)
        outcome = state.process(ReplayedMessage(UUID(int=next(numbers)), at, case.body, element))
        json.dumps([outcome.reason.code, outcome.reason.data]).encode()
        str(outcome.reason).encode()
        if isinstance(element, Element):
            explain(normalizer, element).to_json()
        if outcome.mapped is not None:
            assert not any("\x00" in value for value in outcome.mapped.values.values() if isinstance(value, str))
    state.process_due(AT + timedelta(days=2))


def _message_seeds() -> list[Input]:
    seeds = []
    for name, kind in load_kinds().items():
        for sample in kind.samples:
            content_type = sample.content_type or ""
            seeds += [Input(f"{name} {content_type}", sample.body), Input(f"{name}+own {content_type}", sample.body)]
            seeds.append(Input(f"api {content_type}", sample.body))
    return [seed for seed in seeds if len(seed.body) < 20_000]


# --- mail


def _run_mail(case: Input) -> None:
    match case.variant:
        case "reply":
            parsed = parse_reply(case.body)
            parse_command(parsed.text)
            f"{parsed.sender}{parsed.subject}{parsed.text}".encode()
        case "html":
            text = case.body.decode("utf-8", "replace")
            assert "<script" not in safe_html(text).lower()
            plain(text).encode()
        case _:
            for read in (mime_parser.read, mime_parser.attachments, mime_parser.without_attachments):
                try:
                    read(case.body)
                except Rejected as error:
                    assert error.code == "invalid_mail"


def _mail_seeds() -> list[Input]:
    mails = [sample.body for sample in load_kinds()["email"].samples]
    html = b"<p>Hello <b>you</b> <a href='https://x.example'>x</a></p><script>alert(1)</script><!-- x -->"
    return [Input(variant, mail) for mail in mails for variant in ("message", "reply")] + [Input("html", html)]


# --- calendars, YAML, templates, HTTP, callbacks


def _run_ical(case: Input) -> None:
    try:
        users = {"ann@example.org": 1, "bob": 2}
        until = AT + timedelta(days=60)
        calendar = ical.read(case.body, users, ZoneInfo("Europe/Zurich"), AT, until, now=AT)
    except ical.UnreadableCalendar as error:
        assert error.reason
        return
    assert all(begin < end for _, begin, end in calendar.spans)
    "".join([*calendar.unknown, *map(str, calendar.flaws)]).encode()


def _run_yaml(case: Input) -> None:
    try:
        document = yaml_loader.parse(case.body, "tocsin.yaml", _ROOT)
    except Rejected as error:
        assert (error.code, bool(error.detail)) == ("invalid_yaml", True)
        return
    if isinstance(document.value, dict):
        for key, value in document.value.items():
            assert document.line((key,)) > 0
            if isinstance(value, list) and value:
                document.line((key, 0), "name.steps[0].x")


def _yaml_seeds() -> list[Input]:
    return [Input("", (_ROOT / "examples/tocsin.yaml").read_bytes())]


def _run_template(case: Input) -> None:
    """The body is a definition in JSON: the mapping, filters, routes and key of an integration."""
    try:
        definition = json.loads(case.body)
    except (ValueError, RecursionError):
        return
    kind = load_kinds()["api"]
    try:
        normalizer = compile_normalizer(kind, IntegrationDefinition.from_stored(definition, {}))
    except Rejected as error:
        assert error.detail
        return
    for sample in kind.samples[:5]:
        for element in elements_of(kind, sample.body, sample.content_type).elements:
            normalizer.normalize(element)


def _run_saml(case: Input) -> None:
    """What is accepted says what was signed, whatever was changed around it."""
    try:
        if case.variant == "metadata":
            assert read_metadata(case.body, "", AT).sso_url
            return
        addressee = Addressee(saml.ISSUER, saml.ENTITY_ID, saml.ACS_URL, AT)
        check_response(case.body, addressee, "Acme")
        found = read_assertion(signed_assertion(case.body, [saml.certificate("first")]), addressee)
    except (Rejected, InvalidValue) as error:
        assert str(error)
        return
    assert (found.subject, found.attributes["email"]) == ("ann-1", ["ann@example.org"])


@cache
def _saml_seeds() -> list[Input]:
    double = saml.SamlDouble(lambda: AT, attributes={"email": "ann@example.org", "groups": ["Desk"]})
    responses = []
    for signed in (("Assertion",), ("Response",), ("Assertion", "Response"), ()):
        double.signed = signed
        responses.append(Input("response", base64.b64decode(double.respond("_request"))))
    return [
        *responses,
        Input("metadata", saml.metadata(saml.certificate("first"), saml.certificate("second")).encode()),
    ]


def _run_callback(case: Input) -> None:
    kind, _, endpoint = case.variant.partition(" ")
    if kind == "twilio":
        # It signs text only.
        case = Input(case.variant, case.body.decode("utf-8", "ignore").encode())
    handle_signed(kind, endpoint, {}, case.body)


def _callback_seeds() -> list[Input]:
    return [
        Input(f"{kind} {endpoint}", body_of(kind, shape))
        for kind, vendor in VENDORS.items()
        for shape in vendor.shapes
        for endpoint in vendor.what
    ]


_LONG = (b"9" * 400, b'{"a":' * 200, b"[" * 500, b" " * 300, b"A" * 3_000, b"<table>" * 50, b"- - " * 200)


def _tokens(*files: str) -> tuple[bytes, ...]:
    """The tokens of these files, one a line, escaped as in Python."""
    lines = [line for file in files for line in (TOKENS / f"{file}.txt").read_text("ascii").splitlines()]
    return (*_LONG, *(line.encode().decode("unicode_escape").encode("latin-1") for line in lines))


TARGETS = (
    Target("messages", _run_message, _message_seeds, _tokens("json", "messages")),
    Target("http", http.run, http.seeds, _tokens("http")),
    Target("mail", _run_mail, _mail_seeds, _tokens("text", "mail")),
    Target("ical", _run_ical, list, _tokens("text", "ical")),
    Target("yaml", _run_yaml, _yaml_seeds, _tokens("text", "yaml")),
    Target("templates", _run_template, list, _tokens("json", "templates")),
    Target("saml", _run_saml, _saml_seeds, _tokens("text", "saml")),
    Target("callbacks", _run_callback, _callback_seeds, _tokens("json", "callbacks"), needs_database=True),
)
