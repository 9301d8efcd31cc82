"""Prepares a simulated outcome for display: the result, and who would be paged minute by minute. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from django.utils.translation import gettext as _

from tocsin.core.locale_format import local_duration, local_term
from tocsin.core.reasons import Reason, translatable
from tocsin.inbound.enums import MessageStatus
from tocsin.simulate.chain import SimulatedOutcome
from tocsin.simulate.escalation import SimulatedPage

#: Maximum number of paging times shown; the API returns all of them.
MAX_MOMENTS = 12

#: The channels as they are called in the middle of a sentence.
_CHANNELS = {
    "email": translatable("e-mail"),
    "sms": translatable("SMS"),
    "voice": translatable("call"),
    "push": translatable("push"),
}


@dataclass(slots=True)
class SimulatedPaging:
    """The users paged at one time, each with the channels."""

    delay: timedelta
    people: dict[str, list[str]] = field(default_factory=dict)

    @property
    def delay_text(self) -> str:
        """The delay in words: "at once" or "+5 minutes"."""
        return f"+{local_duration(self.delay)}" if self.delay else _("at once")


@dataclass(frozen=True, slots=True)
class OutcomeView:
    """One message's outcome with its wording and colour."""

    outcome: SimulatedOutcome
    verb: str
    tone: str
    pagings: tuple[SimulatedPaging, ...]
    has_more: bool
    #: Sentences about recipients that could not be reached.
    problems: tuple[Reason, ...]


def outcome_views(outcomes: Iterable[SimulatedOutcome]) -> list[OutcomeView]:
    """Return the outcomes of one request body for display."""
    return [_outcome_view(outcome) for outcome in outcomes]


def would_page(outcome: SimulatedOutcome) -> str:
    """Return who would be paged first, such as "Alice Andersson, at once"; "" for nobody."""
    moments = pages_by_delay(outcome.pages)
    if not moments:
        return ""
    names = list(moments[0].people)
    names_text = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {_('and')} {names[-1]}"
    return f"{names_text}, {moments[0].delay_text if moments[0].delay else _('now')}"


def _outcome_view(outcome: SimulatedOutcome) -> OutcomeView:
    verb, tone = _verb(outcome.status)
    moments = pages_by_delay(outcome.pages)
    problems = tuple(dict.fromkeys(page.problem for page in outcome.pages if page.problem))
    return OutcomeView(outcome, verb, tone, tuple(moments[:MAX_MOMENTS]), len(moments) > MAX_MOMENTS, problems)


def pages_by_delay(pages: Iterable[SimulatedPage]) -> list[SimulatedPaging]:
    """Group simulated pages by time."""
    by_delay: dict[timedelta, SimulatedPaging] = {}
    for page in pages:
        if not page.problem:
            channels = by_delay.setdefault(page.after, SimulatedPaging(page.after)).people.setdefault(page.name, [])
            channel = local_term(_CHANNELS.get(page.channel, page.channel))
            if channel not in channels:
                channels.append(channel)
    return list(by_delay.values())


def _verb(status: MessageStatus) -> tuple[str, str]:
    match status:
        case MessageStatus.OPENED:
            return _("open an alert"), "now"
        case MessageStatus.APPENDED:
            return _("count on its alert"), ""
        case MessageStatus.UPDATED:
            return _("update its alert"), ""
        case MessageStatus.CLOSED:
            return _("close its alert"), "ok"
        case MessageStatus.FAILED:
            return _("fail"), "now"
        case MessageStatus.IGNORED:
            return _("do nothing"), "quiet"
        case MessageStatus.PENDING | MessageStatus.DELAYED:
            return _("wait"), "wait"
