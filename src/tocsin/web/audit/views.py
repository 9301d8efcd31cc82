"""The audit log, for administrators: configuration changes with old and new values, and sign-ins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Q
from django.http import HttpResponse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from tocsin.access.models import AuditEntry
from tocsin.access.roles import Permission
from tocsin.web.http.authorization import requires
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.ui import pagination

#: The nouns of the objects in the log.
_NOUNS = {
    "absence": _("absence"),
    "calendar_feed": _("calendar feed"),
    "client_table": _("client table"),
    "contact_method": _("contact method"),
    "delayed_opening": _("delayed alert"),
    "escalation_policy": _("escalation policy"),
    "group": _("group"),
    "holiday_calendar": _("holiday calendar"),
    "import": _("import"),
    "inbound_message": _("inbound message"),
    "integration": _("integration"),
    "maintenance_window": _("maintenance window"),
    "notification_rules": _("notification rules"),
    "out_of_office": _("absence"),
    "outbound_call": _("outbound call"),
    "outbound_integration": _("outbound integration"),
    "override": _("override"),
    "policy": _("escalation policy"),
    "provider": _("provider"),
    "push_device": _("push device"),
    "schedule": _("schedule"),
    "secret_key": _("secret key"),
    "settings": _("settings"),
    "support_hours": _("support hours"),
    "swap": _("swap"),
    "token": _("token"),
    "user": _("user"),
    "workflow": _("workflow"),
    "workflow_run": _("workflow run"),
}

#: The actions in the past tense.
_VERBS = {
    "create": _("made"),
    "update": _("changed"),
    "delete": _("deleted"),
    "sign_in": _("signed in"),
    "sign_in_failed": _("failed to sign in"),
    "sign_out": _("signed out"),
    "set_password": _("set a password of"),
    "reset_second_factor": _("took away the second factors of"),
    "begin_import": _("began the"),
    "rotate_token": _("made a new URL of"),
    "rotate_keys": _("re-encrypted all secrets under a new"),
    "show_addresses": _("showed a member's addresses to"),
    "revoke": _("ended"),
    "end": _("ended"),
    "try_again": _("tried again"),
    "replay": _("replayed"),
    "send_sample": _("sent a sample to"),
    "pause": _("paused all paging"),
    "end_pause": _("ended the pause"),
}


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One entry, with the old and new value of each change."""

    entry: AuditEntry
    #: (key, before, after) as text.
    changes: tuple[tuple[str, str, str], ...]
    #: What was done, and the noun of the object; both in words.
    verb: str
    noun: str


@require_safe
@requires(Permission.ADMINISTER)
def audit_log(request: SignedInRequest) -> HttpResponse:
    """Render the log, newest first, filtered by sign-ins or changes and by text."""
    rows = AuditEntry.objects.all()
    entry_filter = request.GET.get("show", "")
    if entry_filter == "sign-ins":
        rows = rows.filter(action__in=["sign_in", "sign_in_failed", "sign_out"])
    elif entry_filter == "changes":
        rows = rows.exclude(action__in=["sign_in", "sign_in_failed", "sign_out"])
    text = request.GET.get("q", "").replace("\x00", "").strip()[:100]
    if text:
        rows = rows.filter(Q(actor_name__icontains=text) | Q(object_name__icontains=text) | Q(object_type__iexact=text))
    result = pagination.paginate_by_number(rows, request.GET.get("cursor", ""))
    context = {
        "rows": [_row(entry) for entry in result.rows],
        "pagination": result,
        "text": text,
        "chosen": entry_filter,
    }
    return render_view(request, "audit/log.html", context)


def _row(entry: AuditEntry) -> AuditRow:
    before: dict[str, Any] = entry.before or {}
    after: dict[str, Any] = entry.after or {}
    keys = [*before, *(key for key in after if key not in before)]
    changes = tuple((key, _display_value(before.get(key)), _display_value(after.get(key))) for key in keys)
    return AuditRow(entry, changes, _words(_VERBS, entry.action), _words(_NOUNS, entry.object_type))


def _words(words: Mapping[str, Any], name: str) -> str:
    """Return the words of a name. A name of a later version has none, and is shown without underscores."""
    return str(words.get(name) or name.replace("_", " "))


def _display_value(value: object) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
