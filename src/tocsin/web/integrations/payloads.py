"""Selects the payload to try: a logged message, a sample of the integration type, or a pasted one. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from tocsin.catalogue.kinds import IntegrationKind, Sample
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.web.inbound.body import readable

PASTED = "pasted"
_LOG, _SAMPLE = "log:", "sample:"

#: Number of newest messages offered.
_OFFERED = 25


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
NONE = SamplePayload(PASTED, "", b"")


def groups(integration: Integration, kind: IntegrationKind) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return (heading, [(key, label)]) of the available payloads."""
    messages = [(f"{_LOG}{one.pk}", _named(one)) for one in _latest(integration)[:_OFFERED]]
    samples = [(f"{_SAMPLE}{one.name}", _(one.title)) for one in kind.samples]
    found = [("", [(PASTED, _("Your own, pasted below"))]), (_("From the log"), messages), (_("Samples"), samples)]
    return [(heading, options) for heading, options in found if options]


def choices(integration: Integration, kind: IntegrationKind) -> list[tuple[str, Any]]:
    """Return the same choices for a select."""
    own, *others = groups(integration, kind)
    return [*own[1], *others]


def chosen(integration: Integration, kind: IntegrationKind, key: str, pasted: str) -> SamplePayload:
    """Return the payload of a form key. An unknown key gives the pasted text."""
    if key.startswith(_LOG):
        message = _message(integration, key.removeprefix(_LOG))
        if message is not None:
            return of_message(message)
    if key.startswith(_SAMPLE):
        name = key.removeprefix(_SAMPLE)
        for sample in kind.samples:
            if sample.name == name:
                return of_sample(sample)
    return SamplePayload(PASTED, _("pasted"), pasted.encode("utf-8", "surrogatepass"))


def asked(integration: Integration, kind: IntegrationKind, message: str) -> SamplePayload:
    """Return the message with that id, else the default payload."""
    found = _message(integration, message) if message else None
    return of_message(found) if found is not None else first(integration, kind)


def first(integration: Integration, kind: IntegrationKind) -> SamplePayload:
    """Return the default payload: the newest message that opened an alert, else the newest readable message, else the
    type's default sample."""
    recent = list(_latest(integration)[:_OFFERED])
    opened = next((one for one in recent if one.status == MessageStatus.OPENED), None)
    message = opened or next((one for one in recent if one.status != MessageStatus.FAILED), None)
    if message is not None:
        return of_message(message)
    sample = usual_sample(kind)
    return of_sample(sample) if sample is not None else SamplePayload(PASTED, _("pasted"), b"")


def of_message(message: InboundMessage) -> SamplePayload:
    """Return the payload of a logged message."""
    said = timezone.localtime(message.received_at).strftime("%H:%M:%S")
    label = _("%(time)s, from the log") % {"time": said}
    return SamplePayload(f"{_LOG}{message.pk}", label, bytes(message.raw), message.content_type, message.received_at)


def of_sample(sample: Sample) -> SamplePayload:
    """Return the payload of a sample."""
    return SamplePayload(f"{_SAMPLE}{sample.name}", _("sample: %(title)s") % {"title": _(sample.title)}, sample.body,
                   sample.content_type)  # fmt: skip


def usual_sample(kind: IntegrationKind) -> Sample | None:
    """Return the type's designated default sample, else the simplest one that opens an alert by itself."""
    if kind.first_sample:
        return next((one for one in kind.samples if one.name == kind.first_sample), None)
    opening = [one for one in kind.samples if not one.before and one.expect[0].status == MessageStatus.OPENED]
    plain = sorted(opening, key=lambda one: (len(one.expect), len(one.name)))
    return plain[0] if plain else next(iter(kind.samples), None)


def _latest(integration: Integration) -> Any:
    return (
        InboundMessage.objects.filter(integration=integration, replay_of=None)
        .defer("headers", "verdict")
        .order_by("-pk")
    )


def _message(integration: Integration, text: str) -> InboundMessage | None:
    try:
        number = UUID(text)
    except ValueError:
        return None
    return InboundMessage.objects.filter(integration=integration, pk=number).first()


def _named(message: InboundMessage) -> str:
    at = timezone.localtime(message.received_at)
    when = f"{date_format(at, pgettext('date format', 'j M'))} {at:%H:%M:%S}"
    subject = message.subject or (_("(cannot be read)") if message.status == MessageStatus.FAILED else "")
    return " ".join(part for part in (when, message.source_status, subject[:60]) if part)
