"""Selects the payload to try: a logged message, a sample of the integration type, or a pasted one. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from tocsin.catalogue.kinds import IntegrationKind, Sample
from tocsin.core.reasons import Reason, local_duration, local_term
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.notify.registry import CHANNELS
from tocsin.simulate.chain import SimulatedOutcome
from tocsin.simulate.escalation import SimulatedPage
from tocsin.web.inbound import readable

PASTED = "pasted"
_LOG, _SAMPLE = "log:", "sample:"

#: Number of newest messages offered.
_MAX_LISTED = 25


@dataclass(frozen=True, slots=True)
class SamplePayload:
    """A payload with its form key, label and bytes."""

    key: str
    label: str
    body: bytes
    content_type: str = ""
    received_at: datetime | None = None

    @property
    def text(self) -> str:
        """The body as text for display."""
        return readable(self.body)


#: No payload.
NO_PAYLOAD = SamplePayload(PASTED, "", b"")


def groups(integration: Integration, kind: IntegrationKind) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return (heading, [(key, label)]) of the available payloads."""
    messages = [(f"{_LOG}{item.pk}", _message_label(item)) for item in _latest(integration)[:_MAX_LISTED]]
    samples = [(f"{_SAMPLE}{item.name}", _(item.title)) for item in kind.samples]
    option_groups = [
        ("", [(PASTED, _("Paste your own below"))]),
        (_("From the log"), messages),
        (_("Samples"), samples),
    ]
    return [(heading, options) for heading, options in option_groups if options]


def choices(integration: Integration, kind: IntegrationKind) -> list[tuple[str, Any]]:
    """Return the same choices for a select."""
    pasted, *other_groups = groups(integration, kind)
    return [*pasted[1], *other_groups]


def find_payload(integration: Integration, kind: IntegrationKind, key: str, pasted: str) -> SamplePayload:
    """Return the payload of a form key. An unknown key gives the pasted text."""
    if key.startswith(_LOG):
        message = _message(integration, key.removeprefix(_LOG))
        if message is not None:
            return payload_of_message(message)
    if key.startswith(_SAMPLE):
        name = key.removeprefix(_SAMPLE)
        for sample in kind.samples:
            if sample.name == name:
                return payload_of_sample(sample)
    return SamplePayload(PASTED, _("pasted"), pasted.encode("utf-8", "surrogatepass"))


def message_payload_or_default(integration: Integration, kind: IntegrationKind, message: str) -> SamplePayload:
    """Return the message with that id, else the default payload."""
    logged_message = _message(integration, message) if message else None
    return payload_of_message(logged_message) if logged_message is not None else first(integration, kind)


def first(integration: Integration, kind: IntegrationKind) -> SamplePayload:
    """Return the default payload: the newest message that opened an alert, else the newest readable message, else the
    type's default sample."""
    recent = list(_latest(integration)[:_MAX_LISTED])
    opened = next((candidate for candidate in recent if candidate.status == MessageStatus.OPENED), None)
    message = opened or next((candidate for candidate in recent if candidate.status != MessageStatus.FAILED), None)
    if message is not None:
        return payload_of_message(message)
    sample = default_sample(kind)
    return payload_of_sample(sample) if sample is not None else SamplePayload(PASTED, _("pasted"), b"")


def payload_of_message(message: InboundMessage) -> SamplePayload:
    """Return the payload of a logged message."""
    time_text = timezone.localtime(message.received_at).strftime("%H:%M:%S")
    label = _("%(time)s, from the log") % {"time": time_text}
    return SamplePayload(f"{_LOG}{message.pk}", label, bytes(message.raw), message.content_type, message.received_at)


def payload_of_sample(sample: Sample) -> SamplePayload:
    """Return the payload of a sample."""
    return SamplePayload(f"{_SAMPLE}{sample.name}", _("sample: %(title)s") % {"title": _(sample.title)}, sample.body,
                   sample.content_type)  # fmt: skip


def default_sample(kind: IntegrationKind) -> Sample | None:
    """Return the type's designated default sample, else the simplest one that opens an alert by itself."""
    if kind.first_sample:
        return next((candidate for candidate in kind.samples if candidate.name == kind.first_sample), None)
    opening = [
        candidate
        for candidate in kind.samples
        if not candidate.before and candidate.expect[0].status == MessageStatus.OPENED
    ]
    plain = sorted(opening, key=lambda candidate: (len(candidate.expect), len(candidate.name)))
    return plain[0] if plain else next(iter(kind.samples), None)


def _latest(integration: Integration) -> Any:
    return (
        InboundMessage.objects.filter(integration=integration, replay_of=None)
        .defer("headers", "verdict")
        .order_by("-pk")
    )


def _message(integration: Integration, text: str) -> InboundMessage | None:
    try:
        message_id = UUID(text)
    except ValueError:
        return None
    return InboundMessage.objects.filter(integration=integration, pk=message_id).first()


def _message_label(message: InboundMessage) -> str:
    at = timezone.localtime(message.received_at)
    time_text = f"{date_format(at, pgettext('date format', 'j M'))} {at:%H:%M:%S}"
    subject = message.subject or (_("(unreadable)") if message.status == MessageStatus.FAILED else "")
    return " ".join(part for part in (time_text, message.source_status, subject[:60]) if part)


# ---------- simulation view
# Prepares a simulated outcome for display: the result, and who would be paged minute by minute. Pure.


#: Maximum number of paging times shown; the API returns all of them.
MAX_MOMENTS = 12


@dataclass(slots=True)
class SimulatedPaging:
    """The users paged at one time, each with the channels."""

    delay: timedelta
    people: dict[str, list[str]] = field(default_factory=dict)

    @property
    def delay_text(self) -> str:
        """The delay in words: "at once" or "+5 minutes"."""
        return f"+{local_duration(self.delay)}" if self.delay else _("immediately")


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
            channel = local_term(CHANNELS[page.channel].nouns[0]) if page.channel in CHANNELS else page.channel
            if channel not in channels:
                channels.append(channel)
    return list(by_delay.values())


def _verb(status: MessageStatus) -> tuple[str, str]:
    match status:
        case MessageStatus.OPENED:
            return _("Opens an alert"), "now"
        case MessageStatus.APPENDED:
            return _("Adds to its alert"), ""
        case MessageStatus.UPDATED:
            return _("Updates its alert"), ""
        case MessageStatus.CLOSED:
            return _("Closes its alert"), "ok"
        case MessageStatus.FAILED:
            return _("Fails"), "now"
        case MessageStatus.IGNORED:
            return _("Ignored"), "quiet"
        case MessageStatus.PENDING | MessageStatus.DELAYED:
            return _("Delayed"), "wait"
