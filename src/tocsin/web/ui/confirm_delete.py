"""Deleting something by a page: it asks first, says what still needs it, what was changed meanwhile, and why it could
not be done."""

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
    """The page that asks; by POST it calls `delete(row, actor=…, now=…)`, which may raise Rejected, and goes to `then`.

    `what` is its name, `back` the address of its own page, `about` says what becomes of what hangs on it, `seen` has
    what it was as the page asked, and `noun` is what `needed.of` calls it, where something may need it.
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
        context["needed_by"] = references.of(noun, row.pk)
    return page(request, "parts/delete.html", context, status=409 if problem else 200)
