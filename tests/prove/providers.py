"""Mail servers that are mute, slow, hang, die after DATA, reject for an hour, or refuse until a person acts.

With three providers, the first misbehaves. With one, an hour passes by the test clock (`TOCSIN_TEST_CLOCK`): a second
counts as twenty, in the short version as eighty.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import count

from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.doubles.smtp import SmtpDouble
from tests.prove.bench import MAIL_SECONDS, Bench, Fault
from tests.prove.scenario import Scenario
from tests.prove.worlds import external
from tests.support.installation import until

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
    Scenario("mail-refuses", external, _refuses, runs=1, max_page=30.0),
]
