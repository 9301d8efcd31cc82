"""What was sent, what was answered and what was paged, and the counts that follow. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

#: Pages sent twice, as a share of the answered messages: only sends with an unknown outcome are repeated.
MAX_REPEATED_SHARE = 0.01

#: How late the slowest page of a run may be.
MAX_PAGE_SECONDS = 60.0


@dataclass
class Ticket:
    """One ticket that a sender reports until it is answered. Times are those of the monotonic clock."""

    number: int
    run: int
    message_id: str | None = None
    answered_at: float | None = None
    #: The failed attempts before the answer.
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Page:
    """One page as it arrived at `to`, about these tickets. `message_id` is the same when one delivery is repeated."""

    arrived_at: float
    to: str
    numbers: frozenset[int]
    message_id: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database holds afterwards: the ids of messages, and the number of alerts by ticket."""

    message_ids: frozenset[str]
    alerts: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Counts:
    """The outcome of one run, in tickets. `seconds` is None where no page was sent again."""

    answered: int
    lost: int
    opened_twice: int
    never_paged: int
    paged_twice: int
    #: Of `paged_twice`: by two deliveries. A repeated delivery has the same Message-ID, so mail programs can tell.
    separate_pages: int
    refused_attempts: int
    #: From the fault until the first page about a message that was answered after it.
    seconds: float | None
    #: From the answer, or the end of the fault, until the page: of 95 % of the tickets, and the slowest.
    page_p95: float | None
    page_max: float | None

    @property
    def is_held(self) -> bool:
        """Whether nothing was lost, opened twice, never paged, paged by two deliveries or late, and pages were sent
        again."""
        broken = self.lost or self.opened_twice or self.never_paged or self.separate_pages
        return not broken and self.seconds is not None and (self.page_max or 0.0) <= MAX_PAGE_SECONDS


def count(
    tickets: Sequence[Ticket],
    stored: Stored,
    pages: Iterable[Page],
    *,
    fault_at: float,
    resumed: float | None,
    pages_from: float = 0.0,
) -> Counts:
    """Returns the counts for the tickets of one run. `pages` may be about others too. `resumed`: see `resumed_at`.
    Before `pages_from` no page can arrive."""
    answered = {ticket.number: ticket for ticket in tickets if ticket.answered_at is not None}
    sent = _pages_by_recipient(answered, pages)
    first = {number: min(page.arrived_at for pages in by_user.values() for page in pages)
             for number, by_user in sent.items()}  # fmt: skip
    repeated = {number for number, by_user in sent.items() if any(len(pages) > 1 for pages in by_user.values())}
    # A page may arrive before the answer.
    delays = sorted(
        max(first[number] - max(ticket.answered_at or 0.0, pages_from), 0.0)
        for number, ticket in answered.items()
        if number in first
    )
    return Counts(
        answered=len(answered),
        lost=sum(
            ticket.message_id not in stored.message_ids or not stored.alerts.get(number)
            for number, ticket in answered.items()
        ),
        opened_twice=sum(stored.alerts.get(number, 0) > 1 for number in answered),
        never_paged=len(answered.keys() - sent.keys()),
        paged_twice=len(repeated),
        separate_pages=sum(
            any(len({page.message_id for page in pages}) > 1 for pages in sent[number].values()) for number in repeated
        ),
        refused_attempts=sum(len(ticket.problems) for ticket in tickets),
        seconds=None if resumed is None else resumed - fault_at,
        page_p95=delays[round(0.95 * (len(delays) - 1))] if delays else None,
        page_max=delays[-1] if delays else None,
    )


def resumed_at(answered: Mapping[int, float], first_page: Mapping[int, float], fault_at: float) -> float | None:
    """Returns when the first page arrived about a ticket that was answered after the fault. None: not yet."""
    return min(
        (at for number, at in first_page.items() if at > fault_at and answered.get(number, fault_at) > fault_at),
        default=None,
    )


def _pages_by_recipient(answered: Mapping[int, Ticket], pages: Iterable[Page]) -> dict[int, dict[str, list[Page]]]:
    sent: dict[int, dict[str, list[Page]]] = {}
    for page in pages:
        for number in page.numbers & answered.keys():
            sent.setdefault(number, {}).setdefault(page.to, []).append(page)
    return sent


def count_alerts(source_ids: Iterable[str]) -> dict[int, int]:
    """Returns the number of alerts by ticket."""
    return dict(Counter(int(text) for text in source_ids if text.isdigit()))
