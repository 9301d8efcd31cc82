"""Invites several users at once: pasted addresses or CSV, checked and shown before anybody is invited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from tocsin.access.roles import Permission, Role
from tocsin.core.errors import Rejected
from tocsin.people.changes import invitations
from tocsin.people.changes.invitations import InvitationLine, InvitationSpec
from tocsin.web.http.authorization import actor, requires
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.ui.forms import problem_text, show_rejection
from tocsin.web.users import invitation_mails
from tocsin.web.users.forms import InviteManyForm

#: The maximum number of problems that are listed.
MAX_PROBLEMS = 50


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ADMINISTER)
def invite_many(request: SignedInRequest) -> HttpResponse:
    """Check and preview what was entered; once confirmed, invite everybody or nobody."""
    form = InviteManyForm(request.POST or None)
    preview: list[dict[str, Any]] = []
    if request.method == "POST" and form.is_valid():
        try:
            lines = invitations.read_lines(form.cleaned_data["text"])
            if problems := _problems(lines):
                for text in problems:
                    form.add_error("text", text)
            elif "confirm" in request.POST:
                return _invite(request, form, lines)
            elif "edit" not in request.POST:
                preview = [_preview(line) for line in lines]
        except Rejected as rejected:
            show_rejection(form, rejected, {"": "text"})
    context = {"form": form, "preview": preview}
    return render_view(request, "users/invite_many.html", context, status=422 if form.errors else 200)


def _invite(request: SignedInRequest, form: InviteManyForm, lines: Sequence[InvitationLine]) -> HttpResponse:
    entries = [line.values for line in lines]
    created = invitations.invite(entries, time_zone=request.user.time_zone, actor=actor(request), now=request.now)
    if form.cleaned_data["invite"]:
        for user in created:
            invitation_mails.send(request, user, quietly=True)
    text = ngettext("%(count)d person invited.", "%(count)d people invited.", len(created))
    messages.success(request, text % {"count": len(created)})
    return redirect("users")


def _problems(lines: Sequence[InvitationLine]) -> list[str]:
    """Return every problem with its line, such as "Line 7, phone: …"."""
    sentences = []
    for one in invitations.find_problems([line.values for line in lines]):
        values = {
            "number": lines[one.index].number,
            "column": one.field,
            "problem": problem_text(one.rejection),
        }
        text = _("Line %(number)s, %(column)s: %(problem)s") if one.field else _("Line %(number)s: %(problem)s")
        sentences.append(text % values)
    more = len(sentences) - MAX_PROBLEMS
    return sentences[:MAX_PROBLEMS] + ([_("And %(count)s more problems.") % {"count": more}] if more > 0 else [])


def _preview(line: InvitationLine) -> dict[str, Any]:
    spec = InvitationSpec.read(line.values)
    return {"spec": spec, "role": Role(spec.role), "username": spec.user_spec("UTC")["username"]}
