"""The page "Signed-in devices": the user's sessions, with sign-out of each and of all others."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from tocsin.access.audit import AuditActor
from tocsin.identity import browser_sessions as sessions
from tocsin.people.sessions import end_all
from tocsin.web.accounts.session_store import stored_key
from tocsin.web.http.request import SignedInRequest, address_of, render_view
from tocsin.web.push.browsers import device_name


@require_safe
def browser_sessions(request: SignedInRequest) -> HttpResponse:
    """Render the user's sessions, the last used first."""
    current = stored_key(request.session.session_key or "")
    rows = [
        (row, device_name(row.user_agent), row.session_key == current)
        for row in sessions.active_sessions(request.user, request.now)
    ]
    return render_view(request, "me/sign_ins.html", {"rows": rows})


@require_POST
def end_session(request: SignedInRequest) -> HttpResponse:
    """Sign one of the user's browsers out."""
    rows = sessions.active_sessions(request.user, request.now).filter(pk=request.POST.get("session", ""))
    if sessions.end(rows):
        _record(request, 1)
        messages.success(request, _("Signed out there."))
    return redirect("browser_sessions")


@require_POST
def end_all_sessions(request: SignedInRequest) -> HttpResponse:
    """Sign the user out everywhere else: sessions that are not listed end too."""
    current = stored_key(request.session.session_key or "")
    count = sessions.end(sessions.active_sessions(request.user, request.now).exclude(pk=current))
    end_all(request.user)
    update_session_auth_hash(request, request.user)
    _record(request, count)
    text = ngettext("Signed out on %(count)s other device.", "Signed out on %(count)s other devices.", count)
    messages.success(request, text % {"count": count})
    return redirect("browser_sessions")


def _record(request: SignedInRequest, count: int) -> None:
    actor = AuditActor.from_user(request.user, "web", address_of(request), limits=None)
    sessions.record_end(request.user, count, actor=actor, now=request.now)
