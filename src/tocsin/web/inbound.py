"""The Inbound Log and replaying messages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db.models import Q, QuerySet
from django.db.models.fields.json import KeyTextTransform
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.core.db import queries
from tocsin.core.db.queries import SearchableText
from tocsin.core.errors import Rejected
from tocsin.core.ids import first_uuid7
from tocsin.inbound import inspect as replays
from tocsin.inbound.admin import delayed_alerts
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.inspect import explain_message
from tocsin.inbound.models import DelayedAlert, InboundMessage, Integration
from tocsin.inbound.parsing import mime_parser as mail
from tocsin.inbound.storage import retention
from tocsin.web.http.request import SignedInRequest, actor, may, may_somewhere, render_view, require, requires
from tocsin.web.ui import object_list
from tocsin.web.ui.forms import rejections_shown
from tocsin.web.ui.object_list import DAY

# ---------- attachments

#: Media types that are safe to declare, because browsers never execute them. Everything else is sent as octet-stream.
_HARMLESS = frozenset(
    [
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "application/pdf",
        "text/plain",
        "text/csv",
        "application/zip",
    ]
)


@require_safe
def attachment(request: SignedInRequest, message_id: UUID, number: int) -> HttpResponse:
    """Serve the file as a download, never inline in Tocsin's origin, whatever type the sender declared."""
    message = get_object_or_404(InboundMessage.objects.only("raw", "content_type"), pk=message_id)
    if message.content_type.partition(";")[0].strip() != mail.MEDIA_TYPE:
        raise Http404
    try:
        files = mail.attachments(bytes(message.raw))
    except Rejected:
        raise Http404 from None
    if number >= len(files):
        raise Http404
    file = files[number]
    response = HttpResponse(
        file.content, content_type=file.media if file.media in _HARMLESS else "application/octet-stream"
    )
    response["Content-Disposition"] = content_disposition_header(True, file.name) or "attachment"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


#: Longer bodies are cut; the API serves the complete body.
MAX_BODY_CHARS = 200_000


def readable(raw: bytes) -> str:
    """Return JSON indented and anything else unchanged. NUL and invalid UTF-8 become replacement characters."""
    text = raw.decode("utf-8", "replace").replace("\x00", "�")
    if len(text) > MAX_BODY_CHARS * 2:
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


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
    integration = forms.ModelChoiceField(Integration.objects.all(), required=False)
    alert = forms.IntegerField(min_value=1, max_value=2**63 - 1, required=False)
    q = forms.CharField(max_length=200, required=False)


@require_safe
def log(request: SignedInRequest) -> HttpResponse:
    """Render the messages, newest first, filtered by outcome, integration, alert and text."""
    outcome = request.GET.get("outcome", "")
    form = MessageFilterForm(request.GET)
    form.is_valid()
    result = object_list.paginate_by_uuid(filter_messages(request.GET), request.GET.get("cursor", ""))
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
    text = readable(bytes(row.raw))
    context = {
        "message": row,
        "explained": explain_message(row, version),
        "body": text[:MAX_BODY_CHARS],
        "is_cut": len(text) > MAX_BODY_CHARS,
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
    """Return the messages that match the filters in `query`, as the parts of a `core.db.queries.QueryUnion`."""
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
        rows.filter(condition, pk__gt=retention.newest_indexed_id()),
        rows.filter(indexed_condition),
        *in_integrations,
    ]


# ---------- replay


@require_POST
@requires(Permission.TEST_INTEGRATIONS)
def replay(request: SignedInRequest, message_id: UUID) -> HttpResponse:
    """Process the message again with the current rules, as a new message, and show that one."""
    message = find(message_id)
    require(request, Permission.TEST_INTEGRATIONS, message.integration.group_id)
    try:
        replayed = replays.replay(message.pk, request.POST.get("page") == "yes", actor(request), request.now)
    except Rejected as rejected:
        messages.warning(request, rejected.reason.localized())
        return redirect("message", message_id)
    messages.success(request, _("Replayed with the current rules. This is the result."))
    return redirect("message", replayed.pk)


@require_POST
@requires(Permission.TEST_INTEGRATIONS)
def replay_many(request: SignedInRequest) -> HttpResponse:
    """Show how many messages would be replayed, their integrations and period; with `sure`, replay them, oldest
    first."""
    rows = _selected_messages(request)
    for integration in {row.integration_id: row.integration for row in rows}.values():
        require(request, Permission.TEST_INTEGRATIONS, integration.group_id)
    if not rows:
        messages.warning(request, _("Select at least one message."))
        return redirect("inbound_log")
    if "sure" not in request.POST:
        return render_view(request, "inbound/replay.html", _confirmation_context(rows, request))
    page_choice = request.POST.get("page")
    with rejections_shown(request):
        counted = replays.replay_many(
            [row.pk for row in rows], {"yes": True, "no": False}.get(str(page_choice)), actor(request), request.now
        )
        summary = ", ".join(f"{number} {status}" for status, number in counted.items())
        skipped = len(rows) - counted.total()
        messages.success(request, _("Replayed with the current rules: %(said)s.") % {"said": summary or _("none")})
        if skipped:
            text = _("%(number)d could not be replayed: the integration's configuration is invalid.")
            messages.warning(request, text % {"number": skipped})
    return redirect("inbound_log")


def _selected_messages(request: SignedInRequest) -> list[InboundMessage]:
    """Return the selected messages, or with `all` the newest ones that match the log's filters."""
    stored = InboundMessage.objects.select_related("integration").defer("raw", "headers", "verdict")
    if "all" in request.POST:
        decided = [rows.exclude(status=MessageStatus.PENDING) for rows in filter_messages(request.POST)]
        return queries.first(decided, replays.MAX_REPLAYED_MESSAGES)
    ids = []
    for text in request.POST.getlist("message")[: replays.MAX_REPLAYED_MESSAGES + 1]:
        try:
            ids.append(UUID(str(text)))
        except ValueError:
            continue
    return list(stored.filter(pk__in=ids).exclude(status=MessageStatus.PENDING).order_by("-pk"))


def _confirmation_context(rows: list[InboundMessage], request: SignedInRequest) -> dict[str, Any]:
    by_integration = Counter(row.integration.name for row in rows)
    return {
        "rows": rows,
        "number": len(rows),
        "by_integration": by_integration.most_common(),
        "old": sum(request.now - row.received_at > replays.LOG_ONLY_AFTER for row in rows),
        "first": rows[-1].received_at,
        "last": rows[0].received_at,
        "is_all": "all" in request.POST,
        "most": replays.MAX_REPLAYED_MESSAGES,
    }
