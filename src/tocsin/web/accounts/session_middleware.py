"""Notes when a session was last used, and leads users who need a second factor to the page where they add one."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from tocsin.web.accounts import sign_in_session
from tocsin.web.accounts.session_store import SIGNED_IN_AT
from tocsin.web.http.machine_paths import MACHINE_PATHS

#: What can be done before a second factor is added: adding one, and signing out.
_ALLOWED = ("/account/", "/service-worker.js", "/offline/")


class SignedInMiddleware:
    """Follows Django's middlewares of sessions and authentication."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        # A token of the API has no session, and is not asked for a user here.
        if not request.session.get(SIGNED_IN_AT) or not request.user.is_authenticated:
            return self.get_response(request)
        sign_in_session.note_use(request)
        path = request.path_info
        if path.startswith(_ALLOWED) or not sign_in_session.must_add_factor(request):
            return self.get_response(request)
        if path.startswith(MACHINE_PATHS) or request.method != "GET":
            return HttpResponse(status=403)
        messages.warning(request, _("Your role requires a second factor. Add an authenticator app or a passkey."))
        return redirect("mfa_index")
