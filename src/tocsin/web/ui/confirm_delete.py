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
from tocsin.web.http.request import SignedInRequest, page
from tocsin.web.ui import references
from tocsin.web.ui.edit_conflicts import FormSnapshot


def ask_and_delete(
    request: SignedInRequest,
    row: Model,
    delete: Callable[..., object],
    *,
    what: str,
    back: str,
    then: tuple[str, *tuple[int, ...]],
    about: str,
    seen: FormSnapshot,
    noun: str | None = None,
) -> HttpResponse:
    """Ask for confirmation; on POST call `delete(row, actor=…, now=…)` and redirect to `then`.

    A Rejected that `delete` raises is shown. `what` is the object's name, `back` the URL name of its view, and `about`
    explains what happens to dependent objects. `seen` is the snapshot of the object that the user confirmed. `noun` is
    the object type for `web.ui.references.of`, if other objects may refer to it.
    """
    problem = ""
    if request.method == "POST":
        try:
            with seen.unchanged():
                delete(row, actor=actor(request), now=request.now)
        except Rejected as rejected:
            problem = rejected.detail
        else:
            messages.success(request, _("%(name)s is deleted.") % {"name": what})
            return redirect(*then)
    context: dict[str, Any] = {"what": what, "problem": problem, "back": (back, row.pk), "about": about, "seen": seen}
    if noun is not None:
        context["needed_by"] = references.references_to(noun, row.pk)
    return page(request, "parts/delete.html", context, status=409 if problem else 200)
