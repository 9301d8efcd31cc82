"""Confirmation view before a deletion. Shows references to the object, concurrent changes and the reason for a
rejection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.db.models import Model
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from tocsin.core.errors import Rejected
from tocsin.web.http.authorization import actor
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.ui import references
from tocsin.web.ui.edit_conflicts import FormSnapshot


def ask_and_delete(
    request: SignedInRequest,
    row: Model,
    delete: Callable[..., object],
    *,
    object_name: str,
    back_view: str,
    success_target: tuple[str, *tuple[int, ...]],
    consequences: str,
    snapshot: FormSnapshot,
    object_type: str | None = None,
) -> HttpResponse:
    """Ask for confirmation; on POST call `delete(row, actor=…, now=…)` and redirect to `success_target`.

    A Rejected that `delete` raises is shown. `object_name` is the object's name, `back_view` the URL name of its view,
    and `consequences` explains what happens to dependent objects. `snapshot` is the snapshot of the object that the
    user confirmed. `object_type` is the object type for `web.ui.references.of`, if other objects may refer to it.
    """
    problem = ""
    if request.method == "POST":
        try:
            with snapshot.unchanged():
                delete(row, actor=actor(request), now=request.now)
        except Rejected as rejected:
            problem = rejected.reason.localized()
        else:
            messages.success(request, _("%(name)s is deleted.") % {"name": object_name})
            return redirect(*success_target)
    context: dict[str, Any] = {
        "object_name": object_name,
        "problem": problem,
        "back": (back_view, row.pk),
        "consequences": consequences,
        "snapshot": snapshot,
    }
    if object_type is not None:
        context["used_by"] = references.references_to(object_type, row.pk)
    return render_view(request, "parts/delete.html", context, status=409 if problem else 200)
