"""The Inbound Log: every message with outcome and reason, and the details of one message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django import forms
from django.db.models import Q, QuerySet
from django.db.models.fields.json import KeyTextTransform
from django.http import Http404, HttpResponse, QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from tocsin.access.roles import Permission
from tocsin.core.db.trigram_index import SearchableText
from tocsin.core.ids import first_uuid7
from tocsin.inbound.admin import delayed_alerts
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.inspect.message_explanation import explain_message
from tocsin.inbound.models import DelayedAlert, InboundMessage, Integration
from tocsin.inbound.storage import search_index
from tocsin.web.http.authorization import may, may_somewhere
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.inbound import body
from tocsin.web.ui import pagination
from tocsin.web.ui.capped_counts import DAY

#: (key in the URL, label, status)
TABS: tuple[tuple[str, Any, MessageStatus | None], ...] = (
    ("", gettext_lazy("All"), None),
    ("opened", gettext_lazy("Opened"), MessageStatus.OPENED),
    ("appended", gettext_lazy("Appended"), MessageStatus.APPENDED),
    ("updated", gettext_lazy("Updated"), MessageStatus.UPDATED),
    ("closed", gettext_lazy("Closed"), MessageStatus.CLOSED),
    ("ignored", gettext_lazy("Ignored"), MessageStatus.IGNORED),
    ("delayed", gettext_lazy("Delayed"), MessageStatus.DELAYED),
    ("failed", gettext_lazy("Failed"), MessageStatus.FAILED),
)


class MessageFilterForm(forms.Form):
    """The log's filters."""

    integration = forms.ModelChoiceField(Integration.objects.all(), required=False)
    alert = forms.IntegerField(min_value=1, max_value=2**63 - 1, required=False)
    q = forms.CharField(max_length=200, required=False)


@require_safe
def log(request: SignedInRequest) -> HttpResponse:
    """Render the messages, newest first, filtered by outcome, integration, alert and text."""
    outcome = request.GET.get("outcome", "")
    form = MessageFilterForm(request.GET)
    form.is_valid()
    result = pagination.paginate_by_uuid(filter_messages(request.GET), request.GET.get("cursor", ""))
    failed = InboundMessage.objects.filter(status=MessageStatus.FAILED, pk__gte=first_uuid7(request.now - DAY))
    # Most installations delay nothing, so the tab appears only if something is delayed.
    has_delayed = outcome == "delayed" or DelayedAlert.objects.exists()
    context = {
        "tabs": [(key, label, key == outcome) for key, label, _status in TABS if key != "delayed" or has_delayed],
        "failed_count": failed.count(),
        "rows": _add_due_times(result.rows),
        "pagination": result,
        "integrations": Integration.objects.only("pk", "name"),
        "chosen": form.cleaned_data,
        "is_filtered": any(form.cleaned_data.values()) or _status(outcome) is not None,
        "may_replay": may_somewhere(request, Permission.TEST_INTEGRATIONS),
        "outcome": outcome,
    }
    return render_view(request, "inbound/log.html", context, partials=("list", "tabs"))


def _add_due_times(rows: Sequence[InboundMessage]) -> Sequence[InboundMessage]:
    """Add to each delayed message the time at which it is due."""
    due = delayed_alerts.due_by_message(rows)
    for row in rows:
        row.due_at = due.get(row.pk)  # type: ignore[attr-defined]
    return rows


@require_safe
def message(request: SignedInRequest, message_id: UUID) -> HttpResponse:
    """Render one message: raw body, mapping, rules, filters, routes and result, by the original or the current
    rules."""
    row = find(message_id)
    by_current = request.GET.get("rules") == "current"
    version = row.integration.current_version if by_current else None
    text = body.readable(bytes(row.raw))
    context = {
        "message": row,
        "explained": explain_message(row, version),
        "body": text[: body.MAX_BODY_CHARS],
        "is_cut": len(text) > body.MAX_BODY_CHARS,
        "by_current": by_current,
        "delayed_alert": delayed_alerts.find_for_message(row),
        "may_replay": may(request, Permission.TEST_INTEGRATIONS, row.integration.group_id),
        "is_old": request.now - row.received_at > DAY / 24,
        "replays": InboundMessage.objects.filter(replay_of=row.pk, pk__gt=row.pk).only("pk", "received_at", "status")
        if row.alert_id is None
        else (),
    }
    return render_view(request, "inbound/message.html", context, partials=("explained",))


def find(message_id: UUID) -> InboundMessage:
    """Return the message with the relations that its view needs. Raises Http404."""
    rows = InboundMessage.objects.select_related("integration__current_version", "version", "alert")
    row = rows.filter(pk=message_id).first()
    if row is None:
        raise Http404(_("Message not found, or older than the log's retention period."))
    return row


def filter_messages(query: QueryDict) -> list[QuerySet[InboundMessage]]:
    """Return the messages that match the filters in `query`, as the parts of a `core.db.query_union.QueryUnion`."""
    form = MessageFilterForm(query)
    form.is_valid()
    return _filtered(form.cleaned_data, _status(query.get("outcome", "")))


def _status(outcome: object) -> MessageStatus | None:
    return next((status for key, _label, status in TABS if key == outcome), None)


def _filtered(filters: dict[str, Any], status: MessageStatus | None) -> list[QuerySet[InboundMessage]]:
    rows = InboundMessage.objects.select_related("integration").defer("raw", "headers", "verdict")
    rows = rows.annotate(discovered_by=KeyTextTransform("x-tocsin-found-by", "headers"))
    if status is not None:
        rows = rows.filter(status=status)
    if filters.get("integration"):
        rows = rows.filter(integration=filters["integration"])
    if filters.get("alert"):
        rows = rows.filter(alert=filters["alert"])
    text = (filters.get("q") or "").strip().replace("\x00", "")
    if not text:
        return [rows]
    number = text.removeprefix("#")
    condition = Q(source_id__iexact=number) | Q(subject__icontains=text)
    indexed_condition = Q(texts__source_id=SearchableText(number)) | Q(texts__subject__contains=SearchableText(text))
    integration_ids = list(Integration.objects.filter(name__icontains=text).values_list("pk", flat=True))
    in_integrations = [rows.filter(integration=integration) for integration in integration_ids]
    return [
        rows.filter(condition, pk__gt=search_index.newest_indexed_id()),
        rows.filter(indexed_condition),
        *in_integrations,
    ]
