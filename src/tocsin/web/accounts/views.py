"""The two sign-up flows that django-allauth does not cover: the setup link, and an invitation."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from tocsin.access import setup_link
from tocsin.core.errors import Rejected
from tocsin.core.runtime import clock
from tocsin.people.changes import users
from tocsin.people.models import User
from tocsin.web.accounts import invitation
from tocsin.web.accounts.adapter import AccountAdapter
from tocsin.web.accounts.devices import remember
from tocsin.web.accounts.forms import SetupForm, WelcomeForm
from tocsin.web.http.request import address_of
from tocsin.web.ui.forms import offer_own_zone, show_rejection


@login_not_required
@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def setup(request: HttpRequest, token: str) -> HttpResponse:
    """Create the first administrator. Works only once."""
    if users.has_administrator() or not setup_link.is_valid(token):
        return render(request, "account/setup_expired.html", status=410)
    form = SetupForm(request.POST or None)
    offer_own_zone(form)
    if request.method == "POST" and form.is_valid():
        try:
            user = users.create_first_administrator(
                token,
                form.spec(),
                password=form.cleaned_data["password"],
                now=clock.now(),
                address=address_of(request),
            )
        except Rejected as rejected:
            show_rejection(form, rejected)
        else:
            return _sign_in(request, user)
    return render(request, "account/setup.html", {"form": form}, status=422 if form.errors else 200)


@login_not_required
@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def welcome(request: HttpRequest, token: str) -> HttpResponse:
    """Let an invited user choose a password, sign the user in, and lead on to the phone (`web.me.onboarding`)."""
    try:
        user = invitation.find_user(token)
        form = WelcomeForm(request.POST or None, initial={"time_zone": user.time_zone})
        offer_own_zone(form)
        if (
            request.method == "POST"
            and form.is_valid()
            and (accepted_user := _accept_invitation(form, user, token, request))
        ):
            return _sign_in(request, accepted_user, "onboarding_phone")
    except Rejected as rejected:
        return render(request, "account/welcome_expired.html", {"reason": rejected.reason.localized()}, status=410)
    return render(request, "account/welcome.html", {"form": form, "invited": user}, status=422 if form.errors else 200)


def _accept_invitation(form: WelcomeForm, user: User, token: str, request: HttpRequest) -> User | None:
    """Set the password and return the user, or None if the form has errors. Raises Rejected for an invalid link."""
    password = form.cleaned_data["password"]
    try:
        validate_password(password, user)
    except ValidationError as error:
        form.add_error("password", error)
        return None
    zone, address = form.cleaned_data["time_zone"], address_of(request)
    try:
        return invitation.accept(token, password=password, time_zone=zone, address=address, now=clock.now())
    except Rejected as rejected:
        if rejected.code == invitation.INVALID_LINK_CODE:
            raise
        show_rejection(form, rejected)
        return None


def _sign_in(request: HttpRequest, user: User, next_view: str = "home") -> HttpResponse:
    AccountAdapter(request).login(request, user)
    response = redirect(next_view)
    remember(request, response, user)
    return response
