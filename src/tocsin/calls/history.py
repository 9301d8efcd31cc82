"""Past calls: their figures, and their recordings. Reads only, what the viewer sees."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from django.db.models import Count, Q, QuerySet
from django.db.models.functions import ExtractHour
from django.http import HttpResponse

from tocsin.alerts.models import Alert
from tocsin.calls.models import PhoneCall
from tocsin.calls.service import playable_type
from tocsin.calls.states import CallOutcome


@dataclass(frozen=True, slots=True)
class CallFigures:
    """How the calls of a period went. A test counts for none."""

    calls: int
    answered: int
    missed: int
    voicemails: int
    #: The median from the first ring at the hotline until a person took the call; None if no one did.
    seconds_to_person: int | None
    by_person: Sequence[tuple[str, int]]
    by_client: Sequence[tuple[str, int]]
    #: By hour of the day, in UTC.
    by_hour: Sequence[tuple[int, int]]


def summarize_calls(since: datetime) -> CallFigures:
    """Returns the figures of the calls since then."""
    calls = PhoneCall.objects.filter(started_at__gte=since, is_test=False).order_by()
    counts = dict(calls.values_list("outcome").annotate(Count("pk")))
    answered = calls.filter(answered_at__isnull=False)
    times = answered.values_list("started_at", "answered_at")
    waits = [(taken - came).total_seconds() for came, taken in times if taken is not None]
    people = answered.filter(answered_by__isnull=False).values_list("answered_by__name").annotate(Count("pk"))
    clients = calls.exclude(client="").values_list("client").annotate(Count("pk"))
    hours = calls.annotate(hour=ExtractHour("started_at", tzinfo=UTC)).values_list("hour").annotate(Count("pk"))
    return CallFigures(
        calls=sum(counts.values()),
        answered=counts.get(CallOutcome.ANSWERED, 0),
        missed=counts.get(CallOutcome.MISSED, 0),
        voicemails=counts.get(CallOutcome.VOICEMAIL, 0),
        seconds_to_person=round(median(waits)) if waits else None,
        by_person=_most_first(people),
        by_client=_most_first(clients),
        by_hour=sorted(hours),
    )


def _most_first(rows: QuerySet[PhoneCall, tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def recordings(number: int) -> QuerySet[PhoneCall]:
    """Returns the call if it has a recording that the viewer may hear: that of an alert, whoever sees the alert."""
    calls = PhoneCall.objects.filter(pk=number, recording__isnull=False)
    return calls.filter(Q(alert=None) | Q(alert__in=Alert.objects.all()))


_RANGE = re.compile(r"bytes=(\d{1,10})-(\d{0,10})")


def send_recording(call: PhoneCall, asked: str) -> HttpResponse:
    """Returns the recording of a call, or the range of it that a player asks for: Safari plays nothing else."""
    assert call.recording is not None
    content, kind = bytes(call.recording), playable_type(call)
    headers = {"Accept-Ranges": "bytes", "Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
    headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    match = _RANGE.fullmatch(asked)
    first, last = (int(match[1]), int(match[2] or len(content) - 1)) if match else (0, len(content) - 1)
    if match is None or first > min(last, len(content) - 1):
        return HttpResponse(content, content_type=kind, headers=headers)
    last = min(last, len(content) - 1)
    headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
    return HttpResponse(content[first : last + 1], status=206, content_type=kind, headers=headers)
