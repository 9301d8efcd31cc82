"""The two sign-up flows that django-allauth does not cover: the setup link, and an invitation."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.password_validation import validate_password
from django.core import signing
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from tocsin.access import tokens
from tocsin.access.audit import AuditActor
from tocsin.core.config import environment, settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import as_reason
from tocsin.core.runtime import clock
from tocsin.people.changes import users
from tocsin.people.models import User
from tocsin.people.sign_in_rules import may_use_password
from tocsin.web.accounts.adapter import AccountAdapter, public_url
from tocsin.web.accounts.signin import SetupForm, WelcomeForm, remember
from tocsin.web.http.request import address_of
from tocsin.web.ui.forms import offer_own_zone, rejections_shown, show_rejection

# ---------- invitation
# The invitation link with which a new user chooses a password: signed, valid for seven days, and usable once.

VALIDITY = timedelta(days=7)

#: Rejection code of an expired, used or invalid link.
INVALID_LINK_CODE = "invitation_over"

_SALT = "tocsin.invitation"


def link(user: User) -> str:
    """Return the absolute URL at which `user` chooses a password, or signs in by an identity provider."""
    if not may_use_password(user):
        return public_url(reverse("account_login"))
    token = signing.dumps([user.pk, _stamp(user)], salt=_SALT)
    return public_url(reverse("welcome", kwargs={"token": token}))


def find_user(token: str) -> User:
    """Return the user of a link. Raises Rejected("invitation_over") if it is expired, used or invalid."""
    try:
        user_id, stamp = signing.loads(token, salt=_SALT, max_age=VALIDITY)
    except (signing.BadSignature, ValueError, TypeError):
        raise Rejected(INVALID_LINK_CODE, as_reason(_("This link is invalid or has expired."))) from None
    user = User.objects.filter(pk=user_id, is_active=True).first()
    # A user with a password has signed in before; accepting the link would bypass the second factor.
    if user is None or user.has_usable_password() or stamp != _stamp(user) or not may_use_password(user):
        raise Rejected(INVALID_LINK_CODE, as_reason(_("This link has already been used.")))
    return user


def accept(token: str, *, password: str, time_zone: str, address: str | None, now: datetime) -> User:
    """Use the link: set the password and time zone. Of two concurrent uses the first succeeds.

    Raises Rejected as `user_of` does, or for an invalid password or time zone.
    """
    with transaction.atomic():
        settings_store.lock()
        user = find_user(token)
        actor = AuditActor.from_user(user, "web", address, limits=None)
        return users.change_own(user, {"time_zone": time_zone}, actor=actor, now=now, password=password)


def send(user: User, inviter: User) -> None:
    """E-mail the invitation link. Raises the provider's error."""
    context = {
        "user": user,
        "inviter": inviter,
        "link": link(user),
        "has_password": may_use_password(user),
        "public_url": environment.current().public_url,
    }
    AccountAdapter().render_mail("account/email/invitation", user.email, context).send()


def _stamp(user: User) -> str:
    """Return a digest that changes when a password is set, the e-mail address changes, or the sessions are ended."""
    text = f"{user.pk} {user.email.lower()} {user.password} {user.session_stamp}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@login_not_required
@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def setup(request: HttpRequest, token: str) -> HttpResponse:
    """Create the first administrator. Works only once."""
    if users.has_administrator() or not tokens.is_valid(token):
        return render(request, "account/setup_expired.html", status=410)
    form = SetupForm(request.POST or None)
    offer_own_zone(form)
    if request.method == "POST" and form.is_valid():
        with rejections_shown(form):
            user = users.create_first_administrator(
                token, form.spec(), password=form.cleaned_data["password"], now=clock.now(), address=address_of(request)
            )
            return _sign_in(request, user)
    return render(request, "account/setup.html", {"form": form}, status=422 if form.errors else 200)


@login_not_required
@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def welcome(request: HttpRequest, token: str) -> HttpResponse:
    """Let an invited user choose a password, sign the user in, and lead on to the phone (`web.me.contact_methods`)."""
    try:
        user = find_user(token)
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
        return accept(token, password=password, time_zone=zone, address=address, now=clock.now())
    except Rejected as rejected:
        if rejected.code == INVALID_LINK_CODE:
            raise
        show_rejection(form, rejected)
        return None


def _sign_in(request: HttpRequest, user: User, next_view: str = "home") -> HttpResponse:
    AccountAdapter(request).login(request, user)
    response = redirect(next_view)
    remember(request, response, user)
    return response
