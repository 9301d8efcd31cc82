"""API tokens in the web interface: of the user, and for administrators those of others and of service accounts."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any

from allauth.account.decorators import reauthentication_required
from allauth.account.internal.flows.login import get_authentication_records
from allauth.account.internal.flows.reauthentication import get_reauthentication_flows
from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from tocsin.access import tokens
from tocsin.access.models import ApiToken
from tocsin.access.roles import Permission, Role
from tocsin.access.token_limits import DEFAULT_LIFETIME, WARN_BEFORE, TokenScope
from tocsin.core.errors import Rejected
from tocsin.oncall.calculation import weekly_windows
from tocsin.people import permissions
from tocsin.people.changes import api_tokens
from tocsin.people.models import Group, User
from tocsin.web.http.authorization import actor, may, require
from tocsin.web.http.objects import find_row
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.ui.forms import DayField, show_rejection, user_zone
from tocsin.web.ui.times import format_moment

#: A sign-in this recent needs no confirmation.
_RECENT_SIGN_IN = timedelta(minutes=10)

_SCOPES = [
    (TokenScope.READ, gettext_lazy("Read: alerts, schedules, configuration")),
    (TokenScope.RESPOND, gettext_lazy("Respond: also act on alerts")),
    (TokenScope.CONFIGURE, gettext_lazy("Configure: also change configuration, and see phone numbers")),
    (TokenScope.ADMIN, gettext_lazy("Admin: everything that the owner may do")),
]


class TokenForm(forms.Form):
    """A new token: what it is for, what it may do, and until when."""

    name = forms.CharField(
        label=gettext_lazy("Token name"),
        max_length=tokens.MAX_NAME_CHARS,
        help_text=gettext_lazy("What it is for, such as the script that uses it."),
    )
    scope = forms.ChoiceField(
        label=gettext_lazy("Token scope"), choices=_SCOPES, widget=forms.RadioSelect, initial=TokenScope.READ
    )
    expires_on = DayField(label=gettext_lazy("Expires on"))
    groups = forms.ModelMultipleChoiceField(
        Group.objects.none(),
        label=gettext_lazy("Only these groups"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None selected: everything that the owner may do."),
    )
    clients = forms.CharField(
        label=gettext_lazy("Only these clients"),
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 2, "class": "form-control"}),
        help_text=gettext_lazy("One name per line. The token sees their alerts and reports, and changes nothing."),
    )

    def __init__(self, *args: Any, owner: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        groups = self.fields["groups"]
        assert isinstance(groups, forms.ModelMultipleChoiceField)
        all_groups = Group.objects.all()
        is_admin = owner.role == Role.ADMIN
        groups.queryset = all_groups if is_admin else all_groups.filter(pk__in=permissions.group_roles(owner))
        if not groups.queryset.exists():
            del self.fields["groups"]

    def limits(self) -> dict[str, Any]:
        """Return the keyword arguments of `create_token`. The token ends with the day, in the user's time zone."""
        data = self.cleaned_data
        end = datetime.combine(data["expires_on"] + timedelta(days=1), time())
        return {
            "scope": TokenScope(data["scope"]),
            "groups": [group.name for group in data.get("groups", ())],
            "clients": [line.strip() for line in data["clients"].splitlines() if line.strip()],
            "expires_at": weekly_windows.instant(end, user_zone()),
        }


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@reauthentication_required
def new_token(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Create a token of the user, or as an administrator one of a service account. Shows its secret once.

    Asks for the password or a second factor again, because a token outlives the session.
    """
    _require_recent_sign_in(request)
    owner = request.user if number is None else _find_service_account(request, number)
    last_day = timezone.localdate(request.now) + DEFAULT_LIFETIME
    form = TokenForm(request.POST or None, owner=owner, initial={"expires_on": last_day})
    context = {"form": form, "owner": owner, "is_own": owner == request.user}
    if request.method == "POST" and form.is_valid():
        try:
            created = api_tokens.create_token(
                owner, form.cleaned_data["name"], **form.limits(), actor=actor(request), now=request.now
            )
        except Rejected as rejected:
            show_rejection(form, rejected, {"expires_at": "expires_on"})
        else:
            context |= {"token": created.token, "secret": created.secret}
            if created.token.clients or owner.clients:
                context["status_page"] = request.build_absolute_uri(reverse("status_page", args=[created.secret]))
            return render_view(request, "me/token.html", context)
    return render_view(request, "me/new_token.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def revoke_token(request: SignedInRequest, number: int) -> HttpResponse:
    """Ask for confirmation, showing when the token was last used; then revoke it."""
    rows = ApiToken.objects.select_related("user")
    if not may(request, Permission.ADMINISTER):
        rows = rows.filter(user=request.user)
    token = find_row(rows, number, "token")
    if request.method != "POST":
        used = format_moment(token.last_used_at, request.now) if token.last_used_at else _("never")
        about = _("Requests with this token will be rejected. Last used: %(when)s.") % {"when": used}
        context = {"object_name": token.name, "consequences": about, "back": _page_of(request, token)}
        return render_view(request, "parts/delete.html", context)
    tokens.revoke(token, actor=actor(request), now=request.now)
    messages.success(request, _("Token %(name)s revoked.") % {"name": token.name})
    return redirect(*_page_of(request, token))


def active_tokens(owner: User, now: datetime) -> list[dict[str, Any]]:
    """Return the tokens of `owner` that are not revoked, newest first, with their groups and what is to be said of
    their end."""
    return [
        {
            "token": token,
            "groups": api_tokens.group_names(token.group_ids),
            "is_expired": token.expires_at <= now,
            "expires_soon": now < token.expires_at <= now + WARN_BEFORE,
        }
        for token in ApiToken.objects.filter(user=owner, revoked_at=None).order_by("-created_at")
    ]


def _require_recent_sign_in(request: SignedInRequest) -> None:
    """Raise PermissionDenied if the user, who has neither a password nor a second factor here, signed in long ago.

    Only the identity provider could ask such a user again, which it does at a sign-in.
    """
    if get_reauthentication_flows(request.user):
        return
    records = get_authentication_records(request, request.user)
    signed_in_at = max((float(record["at"]) for record in records), default=0.0)
    if request.now.timestamp() - signed_in_at > _RECENT_SIGN_IN.total_seconds():
        raise PermissionDenied(_("Sign out and sign in again, then create the token within ten minutes."))


def _page_of(request: SignedInRequest, token: ApiToken) -> tuple[Any, ...]:
    """Return the view that lists the token, with its arguments."""
    if token.user_id == request.user.pk:
        return ("me",)
    return ("service_account" if token.user.is_service_account else "user", token.user_id)


def _find_service_account(request: SignedInRequest, number: int) -> User:
    require(request, Permission.ADMINISTER, None)
    return find_row(User.accounts.filter(is_service_account=True), number, "service account")
