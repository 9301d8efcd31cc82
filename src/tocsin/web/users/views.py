"""Users: list, invitation of one, editing, deletion. For administrators."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.core.config import config_version
from tocsin.core.errors import Rejected
from tocsin.notify.enqueue.mfa_reset_notice import remove_second_factors
from tocsin.people import second_factors
from tocsin.people.changes import groups as group_commands
from tocsin.people.changes import out_of_office, users
from tocsin.people.models import User
from tocsin.resources.registry import USERS
from tocsin.web import account_mail
from tocsin.web.accounts import invitation
from tocsin.web.http.authorization import actor, requires
from tocsin.web.http.objects import find_object
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.me.tokens import active_tokens
from tocsin.web.ui.choices import channel_name
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import offer_own_zone, show_rejection
from tocsin.web.ui.object_list import ObjectList
from tocsin.web.users import invitation_mails
from tocsin.web.users.forms import EditUserForm, InviteForm

_LIST = ObjectList(USERS, rows_template="users/rows.html", template="users/list.html")


@require_safe
@requires(Permission.ADMINISTER)
def user_list(request: SignedInRequest) -> HttpResponse:
    """Render every user, with missing contact methods."""
    rows = User.objects.annotate(method_count=Count("contact_methods")).order_by("-is_active", "name", "username")
    return _LIST.render(request, _LIST.matching(request, rows))


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ADMINISTER)
def invite(request: SignedInRequest) -> HttpResponse:
    """Create a user and e-mail the invitation link."""
    form = InviteForm(request.POST or None, initial={"time_zone": request.user.time_zone})
    offer_own_zone(form)
    if request.method == "POST" and form.is_valid():
        try:
            user = _create(request, form)
        except Rejected as rejected:
            show_rejection(form, rejected)
        else:
            invitation_mails.send(request, user)
            return redirect("user", user.pk)
    return render_view(request, "users/invite.html", {"form": form}, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ADMINISTER)
def user(request: SignedInRequest, number: int) -> HttpResponse:
    """Edit a user; show contact methods, groups, tokens and the invitation while it is open."""
    row = find_object(USERS, number)
    initial = {**_user_state(row), "clients": "\n".join(row.clients)}
    form = EditUserForm(request.POST or None, initial=initial)
    snapshot = FormSnapshot.of(request, USERS, row, keys=(*form.fields,))
    if request.method == "POST" and form.is_valid():
        try:
            with snapshot.unchanged():
                spec = {**form.spec(), **({"language": row.language} if row.language else {})}
                users.save_user(spec, existing=row, actor=actor(request), now=request.now)
        except Rejected as rejected:
            show_rejection(form, rejected)
        else:
            messages.success(request, _("Saved."))
            return redirect("user", number)
    is_invited = not row.has_usable_password()
    factors = second_factors.list_second_factors(row)
    context = {
        "person": row,
        "form": form,
        "snapshot": snapshot,
        "is_invited": is_invited,
        # Without an e-mail provider the administrator has to pass the link on.
        "link": invitation.link(row) if is_invited and row.is_active else "",
        "is_mail_sent": account_mail.is_sent_outside(),
        "factors": [name for kind, name in _FACTORS.items() if kind in factors],
        "links": row.identities.select_related("provider"),
        "tokens": active_tokens(row, request.now),
        "methods": [(method, channel_name(method.channel)) for method in row.contact_methods.all()],
        "memberships": row.memberships.select_related("group"),
        "absences": out_of_office.current(row, request.now),
    }
    return render_view(request, "users/user.html", context, status=422 if form.errors else 200)


def _user_state(row: User) -> dict[str, Any]:
    """Return the user's spec with its active flag: the form's initial values and the state for edit conflicts."""
    return {**users.user_spec(row), "active": row.is_active}


_FACTORS = {
    "totp": gettext_lazy("Authenticator app"),
    "webauthn": gettext_lazy("Passkeys and security keys"),
    "recovery_codes": gettext_lazy("Recovery codes"),
}


@require_POST
@requires(Permission.ADMINISTER)
def reset_second_factor(request: SignedInRequest, number: int) -> HttpResponse:
    """Remove the second factors of a user who lost them."""
    row = find_object(USERS, number)
    was_removed = remove_second_factors(row, actor=actor(request), now=request.now)
    if row.pk == request.user.pk:
        update_session_auth_hash(request, row)
    # Another administrator or the user may have removed them in the meantime.
    text = _("Two-factor authentication reset for %(name)s.") if was_removed else _("%(name)s has no second factor.")
    messages.success(request, text % {"name": row.display_name})
    return redirect("user", number)


@require_POST
@requires(Permission.ADMINISTER)
def send_invitation(request: SignedInRequest, number: int) -> HttpResponse:
    """E-mail the invitation link again."""
    invitation_mails.send(request, find_object(USERS, number))
    return redirect("user", number)


def _create(request: SignedInRequest, form: InviteForm) -> User:
    with config_version.exclusive(form.cleaned_data["group"]):
        user = users.save_user(form.spec(), actor=actor(request), now=request.now)
        group = form.cleaned_data["group"]
        if group is not None:
            spec = group_commands.group_spec(group)
            spec["members"].append({"user": user.username, "roles": form.cleaned_data["roles"]})
            group_commands.save_group(spec, existing=group, actor=actor(request), now=request.now)
    return user
