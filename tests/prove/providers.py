"""Mail servers that are mute, slow, hang, die after DATA, reject for an hour, or refuse until a person acts; and a
vendor of calls that refuses them, fails to make them, or takes them and is silent.

With three providers, the first misbehaves. With one, an hour passes by the test clock (`TOCSIN_TEST_CLOCK`): a second
counts as twenty, in the short version as eighty.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import count

from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.doubles.http import Response
from tests.doubles.smtp import SmtpDouble
from tests.doubles.telnyx import telnyx_double
from tests.doubles.twilio import Phone, TwilioDouble, twilio_double
from tests.prove.bench import MAIL_SECONDS, Bench, Fault, PageLog
from tests.prove.scenario import Scenario
from tests.prove.worlds import external
from tests.support.installation import Installation, until

#: Seconds for which the first of three providers misbehaves, and in the short version.
_FAILS, _FAILS_SHORT = 60.0, 20.0
_SLOW = 5.0
#: Seconds for which the only provider gives each of these answers.
_REFUSES, _REFUSES_SHORT = 80.0, 10.0
_REFUSALS = ("550 relaying denied", "554 5.2.2 quota exceeded", "550 not permitted", "535 5.7.8 not authenticated")
#: What the self-check reports within so many seconds when a node has lost its mail server.
_PROBLEMS, _UNTIL_NOTICED = {"no_provider:email", "alerts_unreached"}, 150.0
_HOUR, _STEP = 3600.0, 20.0
_FOREVER = 3600.0
#: One of so many mails: a repeat is expected only after a fault, and few are promised.
_UNANSWERED = 120

#: Calls a second: each is five requests of a vendor, which the pages of a node answer.
_CALL_RATE = 1.0
_BASE_URL = "https://tocsin.example.org"
_CALLED = """
users:
  - username: alice
    name: Alice Andersson
    email: alice@example.org
    role: responder
    contact_methods: [{label: Phone, channel: voice, address: "+41790000001"}]
providers:
"""

type Misbehaviour = Callable[[SmtpDouble], AbstractContextManager[None]]


@contextmanager
def _mute(mails: SmtpDouble) -> Iterator[None]:
    """Accepts connections, and says nothing."""
    mails.greets = "never"
    yield
    mails.greets = "yes"


@contextmanager
def _dead(mails: SmtpDouble) -> Iterator[None]:
    """Ends every connection at once."""
    mails.greets = "hangs up"
    yield
    mails.greets = "yes"


@contextmanager
def _slow(mails: SmtpDouble) -> Iterator[None]:
    """Takes seconds for a mail."""
    mails.takes = _SLOW
    yield
    mails.takes = MAIL_SECONDS


@contextmanager
def _hangs(mails: SmtpDouble) -> Iterator[None]:
    """Greets, and never answers the recipient."""

    async def hang(server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        await asyncio.sleep(_FOREVER)
        return "250 OK"

    mails.handle_RCPT = hang  # type: ignore[method-assign]
    yield
    del mails.handle_RCPT


@contextmanager
def _rejects(mails: SmtpDouble) -> Iterator[None]:
    """Answers 451 to each recipient."""

    async def reject(server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        return "451 4.3.0 Try again later"

    mails.handle_RCPT = reject  # type: ignore[method-assign]
    yield
    del mails.handle_RCPT


@contextmanager
def _dies_after_data(mails: SmtpDouble) -> Iterator[None]:
    """Takes the mail, and ends the connection without an answer."""
    handle = mails.handle_DATA

    async def take_and_die(server: SMTP, session: Session, envelope: Envelope) -> str:
        answer = await handle(server, session, envelope)
        assert server.transport is not None
        server.transport.abort()
        return answer

    mails.handle_DATA = take_and_die  # type: ignore[method-assign]
    yield
    mails.handle_DATA = handle  # type: ignore[method-assign]


@contextmanager
def _silent_after_data(mails: SmtpDouble) -> Iterator[None]:
    """Takes each mail, and gives one of many no answer. Another provider repeats that one seconds later, which may be
    another minute."""
    handle = mails.handle_DATA
    numbers = count()

    async def take_and_say_nothing(server: SMTP, session: Session, envelope: Envelope) -> str:
        answer = await handle(server, session, envelope)
        if next(numbers) % _UNANSWERED == 0:
            await asyncio.sleep(_FOREVER)
        return answer

    mails.handle_DATA = take_and_say_nothing  # type: ignore[method-assign]
    yield
    mails.handle_DATA = handle  # type: ignore[method-assign]


def _first_of_three(what: str, misbehave: Misbehaviour, bench: Bench) -> Fault:
    bench.sleep(0.5, 2.0)
    first: SmtpDouble = bench.parts["mails"][0]
    at = time.monotonic()
    with misbehave(first):
        time.sleep(_FAILS_SHORT if bench.is_short else _FAILS)
    return Fault(f"first of three mail servers {what}", at)


def _for_an_hour(what: str, misbehave: Misbehaviour, bench: Bench) -> Fault:
    bench.sleep(0.5, 2.0)
    (only,) = bench.parts["mails"]
    pause = 0.25 if bench.is_short else 1.0
    with misbehave(only):
        for _ in range(0, int(_HOUR), int(_STEP)):
            bench.installation.jump(seconds=_STEP - pause)
            time.sleep(pause)
    at = time.monotonic()
    return Fault(f"the only mail server {what} for an hour", at, is_over=True)


def _refuses(bench: Bench) -> Fault:
    """The only mail server refuses everything, as it does until a person mends its configuration or the account."""
    bench.sleep(0.5, 2.0)
    (only,) = bench.parts["mails"]
    for answer in _REFUSALS:
        only.refuses = answer
        time.sleep(_REFUSES_SHORT if bench.is_short else _REFUSES)
    only.refuses = ""
    return Fault(f"the only mail server answers {', '.join(_REFUSALS)}", time.monotonic(), is_over=True)


def _loses_its_server(bench: Bench) -> Fault:
    """The node is restarted without its mail server: the alarms must say that pages reach nobody."""
    bench.sleep(0.5, 2.0)
    whole = bench.installation.environment
    bench.node.terminate()
    bench.installation.environment = {name: value for name, value in whole.items() if name != "TOCSIN_SMTP_URL"}
    bench.start_node()
    until("the self-check says so", lambda: _problems(bench) >= _PROBLEMS, _UNTIL_NOTICED)
    (kept,) = bench.installation.rows(
        "SELECT count(*) AS number, count(*) FILTER (WHERE status <> 'sandboxed') AS sent "
        "FROM notify_delivery WHERE provider_name = 'sandbox'"
    )
    assert kept["number"]
    assert kept["sent"] == 0
    bench.node.terminate()
    bench.installation.environment = whole
    bench.start_node()
    assert bench.node.url
    return Fault("the node lost its mail server", time.monotonic(), f"{kept['number']} kept", is_over=True)


def _problems(bench: Bench) -> set[str]:
    return {row["id"] for row in bench.installation.rows("SELECT id FROM operate_problem WHERE ended_at IS NULL")}


class _Phones:
    """Answers the calls of a vendor: each rings and is picked up, or what `how` says instead."""

    def __init__(self, vendor: Phone, pages: PageLog) -> None:
        self.how = "rings"
        self._vendor, self._pages = vendor, pages
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _work(self) -> None:
        answered = 0
        with ThreadPoolExecutor(8) as pool:
            while not self._is_over.wait(0.02):
                for call in self._vendor.calls[answered:]:
                    answered += 1
                    pool.submit(self._answer, call, self.how)

    def _answer(self, call: dict[str, str], how: str) -> None:
        if how == "rings":
            for status in ("initiated", "ringing"):
                self._vendor.call_status(call, status)
            heard = self._vendor.pick_up(call)
            # The same for each vendor, as the Message-ID of a mail is for each server.
            self._pages.add(call["To"], heard.text, call["Url"].rpartition("=")[2])
            self._vendor.call_status(call, "completed")
        elif how == "fails":
            self._vendor.call_status(call, "initiated")
            self._vendor.call_status(call, "failed", SipResponseCode="503")


@contextmanager
def _two_vendors(configured: Installation) -> Iterator[Bench]:
    """Alice is called by one of two vendors; mails go nowhere else."""
    with twilio_double("token") as first, telnyx_double("KEY1") as second:
        kinds = {"twilio": first.settings | {"auth_token": first.token}, "telnyx": second.settings | second.secrets}
        specs = [{"name": kind, "kind": kind, "order": n, **spec} for n, (kind, spec) in enumerate(kinds.items(), 1)]
        providers = "".join(f"  - {json.dumps(spec)}\n" for spec in specs)
        environment = {"TOCSIN_BASE_URL": _BASE_URL, "TOCSIN_ALLOW_TARGETS": "127.0.0.0/8"}
        with external(configured, node_environment=environment, configuration=_CALLED + providers) as bench:
            first.server = second.server = bench.senders.url()
            bench.senders.rate = _CALL_RATE
            phones = [_Phones(vendor, bench.pages) for vendor in (first, second)]
            bench.parts |= {"vendor": first, "phones": phones}
            with phones[0], phones[1]:
                yield bench


def _first_of_two(what: str, how: str, bench: Bench) -> Fault:
    first: TwilioDouble = bench.parts["vendor"]
    # An earlier fault may have opened its circuit.
    used = len(first.calls)
    until("the first vendor makes the calls", lambda: len(first.calls) > used + 1, 120)
    bench.sleep(0.5, 2.0)
    phone: _Phones = bench.parts["phones"][0]
    before, usual, at = len(first.calls), first.http.answering, time.monotonic()
    phone.how = how
    if how == "refuses":
        first.http.answering = lambda _: Response(503)
    time.sleep(_FAILS_SHORT if bench.is_short else _FAILS)
    phone.how, first.http.answering = "rings", usual
    return Fault(f"first of two vendors of calls {what}", at, f"{len(first.calls) - before} calls taken")


def _calls(name: str, what: str, how: str, *, short_runs: int = 1) -> Scenario:
    act = partial(_first_of_two, what, how)
    return Scenario(name, _two_vendors, act, runs=2, short_runs=short_runs, max_page_p95=10.0)


def _three(name: str, what: str, misbehave: Misbehaviour, *, short_runs: int = 1) -> Scenario:
    act = partial(_first_of_three, what, misbehave)
    return Scenario(name, _three_servers, act, runs=2, short_runs=short_runs, max_page_p95=10.0)


def _one(name: str, what: str, misbehave: Misbehaviour, *, short_runs: int = 1) -> Scenario:
    act = partial(_for_an_hour, what, misbehave)
    return Scenario(name, external, act, runs=1, short_runs=short_runs, max_page=30.0)


_three_servers = partial(external, mail_server_count=3)

SCENARIOS = [
    _three("mail-mute", "mute", _mute),
    _three("mail-slow", f"takes {_SLOW:.0f} s a mail", _slow, short_runs=0),
    _three("mail-hangs", "hangs", _hangs, short_runs=0),
    _three("mail-dies-after-data", "dies after DATA", _dies_after_data),
    _three("mail-silent-after-data", "never answers after DATA", _silent_after_data, short_runs=0),
    _three("mail-rejects", "answers 451", _rejects, short_runs=0),
    _one("mail-dead-for-an-hour", "dead", _dead),
    _one("mail-rejects-for-an-hour", "answers 451", _rejects, short_runs=0),
    Scenario("mail-server-lost", external, _loses_its_server, runs=1, short_runs=0, max_page=45.0),
    _calls("call-refused", "refuses", "refuses", short_runs=0),
    _calls("call-silent", "takes calls and is silent", "silent"),
    _calls("call-fails", "reports that calls failed", "fails", short_runs=0),
    Scenario("mail-refuses", external, _refuses, runs=1, max_page=30.0),
]
