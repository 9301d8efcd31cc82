"""One installation under load: its nodes, senders, mail servers that record every page, and the count afterwards."""

from __future__ import annotations

import random
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.doubles.smtp import Mail, SmtpDouble
from tests.prove import records
from tests.prove.ledger import Counts, Page, Stored, Ticket, count, count_alerts, resumed_at
from tests.prove.senders import Senders
from tests.support.installation import HALO_TOKEN, Installation, Node, ask, ticket

#: A local mail server takes so long for a mail: some are always on their way.
MAIL_SECONDS = 0.01
#: How long pages may take to be sent again after a fault, and all of them to be sent after that.
RESUME_LIMIT = 120.0
SETTLE_LIMIT = 90.0

_CLOSED_AT_ONCE = 100
_POLL = 0.02


class PageLog:
    """The pages that mail servers accepted, or phones played, in the order of their arrival."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages: list[Page] = []
        #: When the first page about each ticket arrived.
        self.first: dict[int, float] = {}

    def record(self, double: SmtpDouble) -> None:
        """Records the pages of this mail server too, and keeps none of its mails in memory."""
        handle = double.handle_DATA

        async def handle_and_record(server: SMTP, session: Session, envelope: Envelope) -> str:
            answer = await handle(server, session, envelope)
            with double.arrived:
                arrived, double.mails = double.mails, []
            for mail in arrived:
                self._add(mail)
            return answer

        # An instance's own function comes before the class's.
        double.handle_DATA = handle_and_record  # type: ignore[method-assign]

    def of(self, numbers: frozenset[int]) -> list[Page]:
        """The pages about any of these tickets."""
        with self._lock:
            return [page for page in self._pages if page.numbers & numbers]

    def forget(self, numbers: frozenset[int]) -> None:
        """Drops the pages about these tickets only, once they are counted."""
        with self._lock:
            self._pages = [page for page in self._pages if page.numbers - numbers]
            for number in numbers:
                self.first.pop(number, None)

    def _add(self, mail: Mail) -> None:
        message = mail.message
        if message["X-Tocsin-Purpose"] != "page":
            return
        self.add(mail.to, mail.part("plain"), str(message["Message-ID"]))

    def add(self, to: str, text: str, message_id: str) -> None:
        """Records that somebody got this text."""
        now = time.monotonic()
        numbers = frozenset(int(found) for found in re.findall(r"VPN (\d+) down", text))
        with self._lock:
            self._pages.append(Page(now, to, numbers, message_id))
            for number in numbers:
                self.first.setdefault(number, now)


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done, and the moment from which the time until the next page counts: the beginning of the fault, or its
    end where no page can arrive before."""

    what: str
    at: float
    detail: str = ""
    is_over: bool = False


@dataclass
class Bench:
    """Everything that runs during a scenario. A scenario calls `serve`, breaks something, and returns a Fault."""

    installation: Installation
    pages: PageLog
    senders: Senders
    rng: random.Random = field(default_factory=random.Random)
    #: Starts a node as this world does it.
    start_node: Callable[[], Node] = field(init=False)
    #: What only this world has, such as its hosts or its PostgreSQL.
    parts: dict[str, Any] = field(default_factory=dict)
    #: A shorter version of long waits.
    is_short: bool = False

    @property
    def node(self) -> Node:
        """The newest node."""
        return self.installation.nodes[-1]

    def sleep(self, least: float, most: float) -> float:
        """Waits for a random time, in seconds, and returns it."""
        seconds = self.rng.uniform(least, most)
        time.sleep(seconds)
        return seconds

    def begin_run(self, run: int) -> None:
        """Sends under load, and returns once pages are sent. What is sent from now on belongs to this run."""
        self.senders.run = run
        self.senders.resume()
        self.wait_until_paging(time.monotonic())

    def wait_until_paging(self, fault_at: float, limit: float = RESUME_LIMIT) -> bool:
        """Waits until a page arrives about a message that was answered after this moment. False: none did in time."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if resumed_at(self.senders.answered, dict(self.pages.first), fault_at) is not None:
                return True
            time.sleep(_POLL)
        return False

    def settle(self, runs: Sequence[int], limit: float = SETTLE_LIMIT) -> None:
        """Sends nothing new, and waits until every message of these runs is answered and paged, or the time is over."""
        with suppress(AssertionError):
            self.senders.pause()
        end = time.monotonic() + limit
        while time.monotonic() < end and self._unpaged(runs):
            time.sleep(_POLL)

    def count(self, run: int, fault: Fault) -> Counts:
        """The counts of a run that has settled."""
        tickets = self.senders.of_run(run)
        numbers = frozenset(one.number for one in tickets)
        resumed = resumed_at(self.senders.answered, self.pages.first, fault.at)
        return count(
            tickets,
            self._stored(tickets),
            self.pages.of(numbers),
            fault_at=fault.at,
            resumed=resumed,
            pages_from=fault.at if fault.is_over else 0.0,
        )

    def finish(self, run: int) -> None:
        """Closes a run's alerts and forgets its tickets, so that a long proof does not slow down."""
        numbers = sorted(one.number for one in self.senders.of_run(run) if one.answered_at is not None)
        for start in range(0, len(numbers), _CLOSED_AT_ONCE):
            closing = [ticket(number, "Closed") for number in numbers[start : start + _CLOSED_AT_ONCE]]
            with suppress(OSError):
                ask("POST", f"{self.senders.url()}/in/{HALO_TOKEN}", closing)
        self.pages.forget(frozenset(numbers))
        self.senders.forget(run)

    def keep_evidence(self, folder: Path) -> None:
        """Copies the nodes' logs, for finding the cause."""
        folder.mkdir(parents=True, exist_ok=True)
        for node in self.installation.nodes[-6:]:
            shutil.copy(node.err, folder / node.err.name)
        for name, path in self.parts.get("logs", {}).items():
            if Path(path).exists():
                shutil.copy(path, folder / name)

    def _unpaged(self, runs: Sequence[int]) -> bool:
        first = self.pages.first
        return any(
            one.answered_at is not None and one.number not in first for run in runs for one in self.senders.of_run(run)
        )

    def _stored(self, tickets: Sequence[Ticket]) -> Stored:
        ids = [one.message_id for one in tickets if one.message_id]
        messages = self.installation.rows("SELECT id FROM inbound_inboundmessage WHERE id = ANY(%s::uuid[])", ids)
        alerts = self.installation.rows(
            "SELECT source_id FROM alerts_alert WHERE source_id = ANY(%s)", [str(one.number) for one in tickets]
        )
        return Stored(
            frozenset(str(row["id"]) for row in messages), count_alerts(str(row["source_id"]) for row in alerts)
        )


def free_port(address: str = "127.0.0.1") -> int:
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind((address, 0))
        return int(free.getsockname()[1])


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder at a short path which PostgreSQL's account may pass through. After an exception its logs are kept."""
    path = Path(tempfile.mkdtemp(prefix="tocsin-prove-", dir="/tmp"))
    path.chmod(0o755)
    try:
        yield path
    except Exception:
        kept = records.FOLDER / "failures" / path.name
        kept.mkdir(parents=True)
        for log in [*path.glob("*.log"), *path.glob("err*")]:
            shutil.copy(log, kept)
        raise
    finally:
        shutil.rmtree(path, ignore_errors=True)


def wait_for_database(url: str, seconds: float = 60.0) -> None:
    """Waits until a database accepts writes."""
    end = time.monotonic() + seconds
    while True:
        try:
            with psycopg.connect(url, connect_timeout=2) as connection:
                connection.execute("CREATE TEMPORARY TABLE writable ()")
                return
        except psycopg.Error:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
