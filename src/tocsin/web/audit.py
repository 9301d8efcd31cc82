"""The audit log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.db.models import Q, QuerySet
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from tocsin.access import audit_log as audit_export
from tocsin.access.audit_log import ExportFormat
from tocsin.access.models import AuditEntry
from tocsin.access.roles import Permission, Role
from tocsin.core.config import settings_store
from tocsin.core.config.crypto import ForwardingTarget, Transport
from tocsin.core.db import database
from tocsin.core.reasons import local_term, translatable
from tocsin.oncall.calculation import weekly_windows
from tocsin.people import permissions
from tocsin.web.http.request import SignedInRequest, render_view, requires
from tocsin.web.ui import object_list
from tocsin.web.ui.forms import DayField, user_zone

#: The nouns of the objects in the log.
_NOUNS = {
    noun.replace(" ", "_"): noun
    for noun in (
        translatable("absence"), translatable("calendar feed"), translatable("client report"),
        translatable("client table"),
        translatable("contact method"), translatable("delayed alert"), translatable("escalation policy"),
        translatable("group"), translatable("identity provider"), translatable("holiday calendar"),
        translatable("import"), translatable("inbound message"), translatable("integration"),
        translatable("maintenance window"), translatable("notification rules"), translatable("outbound call"),
        translatable("outbound integration"), translatable("override"), translatable("provider"),
        translatable("push device"), translatable("request"), translatable("schedule"), translatable("secret key"),
        translatable("service account"), translatable("settings"), translatable("support hours"),
        translatable("swap"), translatable("token"), translatable("user"), translatable("workflow"),
        translatable("workflow run"),
    )
} | {"out_of_office": "absence", "policy": "escalation policy"}  # fmt: skip

#: The actions in the past tense.
_VERBS = {
    "create": _("created"),
    "update": _("changed"),
    "delete": _("deleted"),
    "sign_in": _("signed in"),
    "sign_in_failed": _("failed to sign in"),
    "sign_out": _("signed out"),
    "sign_in_refused": _("refused a sign-in:"),
    "break_glass": _("used the break-glass account"),
    "end_sessions": _("signed out all devices of"),
    "backchannel_logout": _("ended sessions:"),
    "link_identity": _("linked an identity to"),
    "link_scim": _("linked a directory entry to"),
    "unlink_identity": _("removed a linked identity from"),
    "grant": _("granted roles to"),
    "grant_refused": _("was refused a grant to"),
    "create_scim_token": _("created the SCIM token of"),
    "rotate_scim_token": _("replaced the SCIM token of"),
    "revoke_scim_token": _("revoked the SCIM token of"),
    "set_password": _("set a password of"),
    "reset_second_factor": _("reset the second factors of"),
    "begin_import": _("started the"),
    "rotate_token": _("rotated the webhook URL of"),
    "rotate_keys": _("re-encrypted all secrets under a new"),
    "show_addresses": _("revealed a member's addresses to"),
    "refused": _("was refused the"),
    "erase": _("erased personal data of"),
    "replace": _("replaced everywhere the"),
    "revoke": _("ended"),
    "use": _("used, for the first time from this address,"),
    "end": _("ended"),
    "try_again": _("retried"),
    "send_again": _("sent again"),
    "verify": _("verified"),
    "rotate": _("replaced the URL of the"),
    "replay": _("replayed"),
    "send_sample": _("sent a sample to"),
    "pause": _("paused all paging"),
    "end_pause": _("ended the pause"),
}


_SIGN_INS = ("sign_in", "sign_in_failed", "sign_in_refused", "sign_out")


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One entry, with the old and new value of each change."""

    entry: AuditEntry
    #: (key, before, after) as text.
    changes: tuple[tuple[str, str, str], ...]
    #: What was done, and the noun of the object; both in words.
    verb: str
    noun: str


def _kinds() -> list[tuple[str, str]]:
    """Return the kinds of objects for a choice, by name. Two names in the log may be one kind."""
    nouns = sorted((local_term(noun), noun) for noun in set(_NOUNS.values()))
    return [("", gettext("All")), *((noun, label[:1].upper() + label[1:]) for label, noun in nouns)]


class AuditFilterForm(forms.Form):
    """Parses the filters. Those that are unusable are ignored, so that old links keep working."""

    show = forms.ChoiceField(choices=[("sign-ins", ""), ("changes", "")], required=False)
    q = forms.CharField(required=False, max_length=100)
    kind = forms.ChoiceField(label=_("Kind of object"), required=False, choices=_kinds)
    since = DayField(label=_("From"), required=False)
    until = DayField(label=_("To"), required=False)


@require_safe
@requires(Permission.READ_AUDIT_LOG)
def audit_log(request: SignedInRequest) -> HttpResponse:
    """Render the log, newest first, filtered by sign-ins or changes, by kind of object, by text and by days."""
    form = AuditFilterForm(request.GET)
    result = object_list.paginate_by_number(_filtered(request, form), request.GET.get("cursor", ""))
    context = {
        "rows": [_row(entry) for entry in result.rows],
        "pagination": result,
        "form": form,
        "text": form.cleaned_data.get("q", ""),
        "chosen": form.cleaned_data.get("show", ""),
        "is_complete": request.user.role == Role.ADMIN,
        "whole_query": request.GET.urlencode(),
        "forwarding": _forwarding() if request.user.role == Role.ADMIN else None,
    }
    return render_view(request, "audit/log.html", context)


def _forwarding() -> dict[str, Any] | None:
    """Return how far the log was forwarded, and where to; None if it is not."""
    target = settings_store.get(settings_store.AUDIT_FORWARDING)
    if not target:
        return None
    with database.transaction() as connection:
        state = audit_export.load_state(connection)
    is_signed = ForwardingTarget.parse(target).transport is Transport.WEBHOOK
    return {"target": target, "state": state, "problem": state.problem.localized(), "is_signed": is_signed}


@require_safe
@requires(Permission.READ_AUDIT_LOG)
def export(request: SignedInRequest, suffix: str) -> HttpResponseBase:
    rows = _filtered(request, AuditFilterForm(request.GET)).order_by("-pk").iterator(chunk_size=500)
    file_format = ExportFormat(suffix)
    lines = audit_export.export(rows, file_format, with_address=request.user.role == Role.ADMIN)
    response = StreamingHttpResponse(lines, content_type=file_format.content_type)
    response["Content-Disposition"] = f'attachment; filename="tocsin-audit-log.{suffix}"'
    return response


def _filtered(request: SignedInRequest, form: AuditFilterForm) -> QuerySet[AuditEntry]:
    form.is_valid()
    values = form.cleaned_data
    rows = permissions.visible_audit_entries(request.viewer)
    match values.get("show"):
        case "sign-ins":
            rows = rows.filter(action__in=_SIGN_INS)
        case "changes":
            rows = rows.exclude(action__in=_SIGN_INS)
    if kind := values.get("kind"):
        rows = rows.filter(object_type__in=[name for name, noun in _NOUNS.items() if noun == kind])
    if text := values.get("q", ""):
        rows = rows.filter(Q(actor_name__icontains=text) | Q(object_name__icontains=text) | Q(object_type__iexact=text))
    if since := values.get("since"):
        rows = rows.filter(at__gte=weekly_windows.instant(datetime.combine(since, time()), user_zone()))
    if until := values.get("until"):
        end = datetime.combine(until + timedelta(days=1), time())
        rows = rows.filter(at__lt=weekly_windows.instant(end, user_zone()))
    return rows


def _row(entry: AuditEntry) -> AuditRow:
    before: dict[str, Any] = entry.before or {}
    after: dict[str, Any] = entry.after or {}
    keys = [*before, *(key for key in after if key not in before)]
    changes = tuple((key, _display_value(before.get(key)), _display_value(after.get(key))) for key in keys)
    return AuditRow(entry, changes, _words(_VERBS, entry.action), local_term(_words(_NOUNS, entry.object_type)))


def _words(words: Mapping[str, Any], name: str) -> str:
    """Return the words of a name. A name of a later version has none, and is shown without underscores."""
    return str(words.get(name) or name.replace("_", " "))


def _display_value(value: object) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
