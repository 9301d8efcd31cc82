"""The audit log, for administrators: configuration changes with old and new values, and sign-ins."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.db.models import Q
from django.http import HttpResponse
from django.views.decorators.http import require_safe

from tocsin.access.models import AuditEntry
from tocsin.access.roles import Permission
from tocsin.web.http.authorization import requires
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.ui import pagination


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One entry, with the old and new value of each change."""

    entry: AuditEntry
    #: (key, before, after) as text.
    changes: tuple[tuple[str, str, str], ...]


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
    return AuditRow(
        entry, tuple((key, _display_value(before.get(key)), _display_value(after.get(key))) for key in keys)
    )


def _display_value(value: object) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
