"""An integration's versions: who saved them and when, the differences between two, and restoring one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from tocsin.access.roles import Permission
from tocsin.core.errors import Rejected
from tocsin.inbound.admin import specs
from tocsin.inbound.admin import versions as kept
from tocsin.inbound.admin.versions import DefinitionChange
from tocsin.inbound.models import IntegrationVersion
from tocsin.web.http.authorization import actor, require
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.integrations.editor import yaml_text
from tocsin.web.integrations.save_review import render_review, review_change
from tocsin.web.integrations.views import find, frame

_MAX_VERSIONS = 100

#: First character of a `difflib` line → CSS class.
_CSS_CLASSES: Mapping[str, str] = {"+": "added", "-": "removed", "@": "place"}


@require_http_methods(["GET", "HEAD", "POST"])
def versions(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the list and the differences between two versions, or restore a version."""
    row, kind = find(number)
    if request.method == "POST":
        require(request, Permission.MANAGE_ROUTING, row.group_id)
        restored_number = _number(request.POST.get("number"))
        try:
            version = kept.find_version(row, restored_number)
            parts = {**dict.fromkeys(specs.DEFINITION_KEYS), **kept.describe_version(version)}
            if (review := review_change(request, row, parts)) is not None:
                return render_review(request, review, frame(request, row, kind, "versions"), "integration_versions")
            kept.restore_version(row, restored_number, actor=actor(request), now=request.now)
        except Rejected as rejected:
            messages.error(request, rejected.reason.localized())
        else:
            messages.success(request, _("Version restored. Applies to new messages."))
        return redirect("integration_versions", number)
    rows = list(row.versions.select_related("created_by").order_by("-number")[: _MAX_VERSIONS + 1])
    new = _find_version(rows, request.GET.get("to"), rows[0] if rows else None)
    old = _find_version(rows, request.GET.get("from"), rows[1] if len(rows) > 1 else None)
    context = {
        **frame(request, row, kind, "versions"),
        "versions": rows[:_MAX_VERSIONS],
        "more": len(rows) > _MAX_VERSIONS,
        "old": old,
        "new": new,
        "changes": _changes(old, new) if old and new else [],
    }
    return render_view(request, "integrations/versions.html", context)


def _find_version(
    rows: list[IntegrationVersion], requested_number: Any, default: IntegrationVersion | None
) -> IntegrationVersion | None:
    return next((version for version in rows if str(version.number) == requested_number), default)


def _number(text: Any) -> int:
    if not isinstance(text, str) or not text.isdecimal() or len(text) > 9:
        raise Http404
    return int(text)


def _changes(old: IntegrationVersion, new: IntegrationVersion) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return (part, lines with CSS class) for each part that differs."""
    names = specs.load_reference_names()
    part_changes = kept.compare(kept.describe_version(old, names), kept.describe_version(new, names))
    return [(change.part.replace("_", " "), _lines(change)) for change in part_changes]


def _lines(change: DefinitionChange) -> list[tuple[str, str]]:
    before, after = (yaml_text.write(value).splitlines(keepends=True) for value in (change.before, change.after))
    lines = list(difflib.unified_diff(before, after, n=3))[2:]
    return [(_CSS_CLASSES.get(line[0], ""), line if line.endswith("\n") else f"{line}\n") for line in lines]
