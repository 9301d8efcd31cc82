"""User administration."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.db.models import Count, Max, Q
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as gettext
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import ROLE_DESCRIPTIONS, Permission, Role
from tocsin.core.config import settings_store
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.notify.notices import remove_second_factors
from tocsin.people import sign_in_rules
from tocsin.people.changes import groups as group_commands
from tocsin.people.changes import invitations, out_of_office, users
from tocsin.people.changes.invitations import InvitationLine, InvitationSpec
from tocsin.people.models import Group, ServiceAccount, User
from tocsin.resources import offboarding
from tocsin.resources.registry import SERVICE_ACCOUNTS, USERS
from tocsin.web.accounts import adapter, views
from tocsin.web.http.request import SignedInRequest, actor, find_object, render_view, requires
from tocsin.web.me.views import active_tokens
from tocsin.web.ui.confirm_delete import FormSnapshot, ObjectPage, references_to
from tocsin.web.ui.forms import (
    ROLES,
    SpecForm,
    ZoneField,
    active_users,
    channel_name,
    checkboxes,
    offer_own_zone,
    problem_text,
    rejections_shown,
)
from tocsin.web.ui.object_list import ObjectList

USER_ROLES = [(role, _(label)) for role, label in ROLE_DESCRIPTIONS.items()]


class UserForm(forms.Form):
    """The fields of a user that an administrator sets."""

    name = forms.CharField(label=_("Name"), max_length=200, required=False)
    email = forms.EmailField(label=_("Email"), max_length=254)
    username = forms.CharField(
        label=_("Username"),
        max_length=100,
        widget=forms.TextInput(attrs={"autocapitalize": "none", "spellcheck": "false", "autocomplete": "off"}),
    )
    role = forms.ChoiceField(label=_("Role"), choices=USER_ROLES, widget=forms.RadioSelect, initial=Role.RESPONDER)
    clients = forms.CharField(
        label=_("Clients"),
        max_length=20_000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text=_("One per line. An observer with clients sees only their alerts and reports."),
    )
    time_zone = ZoneField()

    def clean_clients(self) -> list[str]:
        lines: list[str] = self.cleaned_data["clients"].splitlines()
        return [line.strip() for line in lines if line.strip()]

    def spec(self) -> dict[str, Any]:
        return dict(self.cleaned_data)


class EditUserForm(UserForm):
    """The same fields for an existing user."""

    active = forms.BooleanField(label=_("Active"), required=False)
    break_glass = forms.BooleanField(
        label=_("Break-glass account"),
        required=False,
        help_text=_(
            "May sign in with a password even if only single sign-on is allowed. Each use is sent to administrators."
        ),
    )


class InviteForm(UserForm):
    """A new user, who receives an invitation link."""

    group = forms.ModelChoiceField(Group.objects.all(), label=_("Add to group"), required=False, empty_label=_("None"))
    roles = checkboxes(_("Role in the group"), ROLES)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        username = self.fields["username"]
        username.required = False
        username.help_text = _("Leave empty to use the part of the email address before the @.")

    def clean_username(self) -> str:
        username: str = self.cleaned_data["username"]
        # The e-mail field was cleaned before, because it precedes this one.
        return username or str(self.cleaned_data.get("email", "")).partition("@")[0]

    def spec(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in ("name", "email", "username", "role", "clients", "time_zone")}


class InviteManyForm(forms.Form):
    """Addresses or CSV, and what all of the people have in common."""

    text = forms.CharField(
        label=_("Email addresses or CSV"),
        max_length=200_000,
        widget=forms.Textarea(attrs={"rows": 8, "class": "form-control code", "spellcheck": "false"}),
        help_text=_(
            "One address per line, or separated by commas. For CSV, name the columns in the first line: email, name, "
            "phone, role, groups. Several groups are separated by semicolons."
        ),
    )
    group = forms.ModelChoiceField(
        Group.objects.all(),
        label=_("Add to group"),
        required=False,
        empty_label=_("None"),
        help_text=_("For people whose line names no groups."),
    )
    invite = forms.BooleanField(label=_("Send invitations by email"), required=False, initial=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The only group of a new installation.
        self.initial["group"] = Group.objects.first() if Group.objects.count() == 1 else None

    def lines(self) -> list[InvitationLine]:
        """Return the invitations. Raises Rejected if the text cannot be read."""
        group = self.cleaned_data["group"]
        groups = {"groups": [group.name]} if group else {}
        lines = invitations.read_lines(self.cleaned_data["text"])
        return [replace(line, values={**groups, **line.values}) for line in lines]


# ---------- invitation mails

log = logging.getLogger(__name__)


def send(request: SignedInRequest, user: User, *, quietly: bool = False) -> None:
    """E-mail the invitation. `quietly` shows a message only if it fails."""
    try:
        invitations.send(user, request.user)
    except (Temporary, Permanent, OutcomeUnknown) as error:
        log.warning("The invitation of %s could not be mailed: %s", user.username, error)
        messages.warning(
            request,
            gettext("Could not send the email to %(email)s (%(error)s). Share the link yourself.")
            % {"email": user.email, "error": error},
        )
        return
    if quietly:
        return
    if adapter.is_sent_outside():
        messages.success(request, gettext("Invitation sent to %(email)s.") % {"email": user.email})
    else:
        messages.warning(
            request, gettext("No email provider is set up: the invitation is in the sandbox. Share the link below.")
        )


# ---------- invite many
# Invites several users at once: pasted addresses or CSV, checked and shown before anybody is invited.

#: The maximum number of problems that are listed.
MAX_PROBLEMS = 50


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ADMINISTER)
def invite_many(request: SignedInRequest) -> HttpResponse:
    """Check and preview what was entered; once confirmed, invite everybody or nobody."""
    form = InviteManyForm(request.POST or None)
    preview: list[dict[str, Any]] = []
    if request.method == "POST" and form.is_valid():
        with rejections_shown(form, {"": "text"}):
            lines = form.lines()
            if problems := _problems(lines):
                for text in problems:
                    form.add_error("text", text)
            elif "confirm" in request.POST:
                return _invite(request, form, lines)
            elif "edit" not in request.POST:
                preview = [_preview(line) for line in lines]
    context = {"form": form, "preview": preview}
    return render_view(request, "users/invite_many.html", context, status=422 if form.errors else 200)


def _invite(request: SignedInRequest, form: InviteManyForm, lines: Sequence[InvitationLine]) -> HttpResponse:
    entries = [line.values for line in lines]
    created = invitations.invite(entries, time_zone=request.user.time_zone, actor=actor(request), now=request.now)
    if form.cleaned_data["invite"]:
        for user in created:
            send(request, user, quietly=True)
    text = ngettext("%(count)d person invited.", "%(count)d people invited.", len(created))
    messages.success(request, text % {"count": len(created)})
    if form.cleaned_data["invite"] and not adapter.is_sent_outside():
        messages.warning(
            request, gettext("No email provider is set up: the invitations are in the sandbox. Share each user's link.")
        )
    return redirect("users")


def _problems(lines: Sequence[InvitationLine]) -> list[str]:
    """Return every problem with its line, such as "Line 7, phone: …"."""
    in_column, in_line = gettext("Line %(number)s, %(column)s: %(problem)s"), gettext("Line %(number)s: %(problem)s")
    sentences = []
    for one in invitations.find_problems([line.values for line in lines]):
        values = {"number": lines[one.index].number, "column": one.field, "problem": problem_text(one.rejection)}
        sentences.append((in_column if one.field else in_line) % values)
    more = len(sentences) - MAX_PROBLEMS
    return sentences[:MAX_PROBLEMS] + ([gettext("And %(count)s more problems.") % {"count": more}] if more > 0 else [])


def _preview(line: InvitationLine) -> dict[str, Any]:
    spec = InvitationSpec.read(line.values)
    return {"spec": spec, "role": Role(spec.role), "username": spec.user_spec("UTC")["username"]}


# ---------- service accounts


_LIST = ObjectList(
    SERVICE_ACCOUNTS,
    rows_template="users/service_account_rows.html",
    empty_title=_("No service accounts"),
    empty_text=_(
        "A service account owns the tokens of a script or pipeline, so that they outlive people. It cannot sign in."
    ),
    icon="id-badge",
    add_view="new_service_account",
    add_label=_("New service account"),
    template="users/service_accounts.html",
)


@require_safe
@requires(Permission.ADMINISTER)
def account_list(request: SignedInRequest) -> HttpResponse:
    """Render every service account with its groups and valid tokens."""
    is_valid = Q(api_tokens__revoked_at=None, api_tokens__expires_at__gt=request.now)
    rows = ServiceAccount.objects.prefetch_related("service_groups").annotate(
        token_count=Count("api_tokens", filter=is_valid), last_used_at=Max("api_tokens__last_used_at")
    )
    return _LIST.render(request, _LIST.matching(request, rows.order_by("-is_active", "name")))


class ServiceAccountPage(ObjectPage[ServiceAccount]):
    """The form, and the account's tokens."""

    template = "users/service_account.html"
    new_title = _("New service account")
    shows_saved = True

    def context(self, request: SignedInRequest, row: ServiceAccount | None, form: SpecForm) -> dict[str, Any]:
        return {"tokens": active_tokens(row, request.now) if row else []}


account = ServiceAccountPage(_LIST)


_VIEWS_LIST = ObjectList(USERS, rows_template="users/rows.html", template="users/list.html")


@require_safe
@requires(Permission.ADMINISTER)
def user_list(request: SignedInRequest) -> HttpResponse:
    """Render every user, with missing contact methods."""
    rows = User.objects.annotate(method_count=Count("contact_methods")).order_by("-is_active", "name", "username")
    return _VIEWS_LIST.render(request, _VIEWS_LIST.matching(request, rows))


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ADMINISTER)
def invite(request: SignedInRequest) -> HttpResponse:
    form = InviteForm(request.POST or None, initial={"time_zone": request.user.time_zone})
    offer_own_zone(form)
    if request.method == "POST" and form.is_valid():
        with rejections_shown(form):
            user = _create(request, form)
            send(request, user)
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
        with rejections_shown(form), snapshot.unchanged():
            spec = {**form.spec(), **({"language": row.language} if row.language else {})}
            users.save_user(spec, existing=row, actor=actor(request), now=request.now)
            messages.success(request, gettext("Saved."))
            return redirect("user", number)
    is_invited = not row.has_usable_password()
    factors = sign_in_rules.list_second_factors(row)
    context = {
        "person": row,
        "form": form,
        "snapshot": snapshot,
        "is_invited": is_invited,
        # Without an e-mail provider the administrator has to pass the link on.
        "link": views.link(row) if is_invited and row.is_active else "",
        "is_mail_sent": adapter.is_sent_outside(),
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


class ReplaceForm(forms.Form):
    """Who takes everything over."""

    by = forms.ModelChoiceField(active_users(), label=_("Replaced by"), empty_label="–")

    def __init__(self, *args: Any, person: User, **options: Any) -> None:
        super().__init__(*args, **options)
        users_field: Any = self.fields["by"]
        users_field.queryset = active_users().exclude(pk=person.pk)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ADMINISTER)
def replace_user(request: SignedInRequest, number: int) -> HttpResponse:
    """Show everything that names a user, and replace them there by another one."""
    row = find_object(USERS, number)
    form = ReplaceForm(request.POST or None, person=row)
    if request.method == "POST" and form.is_valid():
        other = form.cleaned_data["by"]
        with rejections_shown(form):
            places = offboarding.replace_everywhere(row, other, actor=actor(request), now=request.now)
            text = ngettext(
                "%(other)s replaces %(name)s in %(count)d place.",
                "%(other)s replaces %(name)s in %(count)d places.",
                len(places),
            )
            names = {"other": other.display_name, "name": row.display_name, "count": len(places)}
            messages.success(request, text % names)
            return redirect("user", number)
    places = [place.reason for place in offboarding.find_places(row, request.now)]
    context = {
        "person": row,
        "form": form,
        "places": dict(Counter(reason.localized() for reason in places)),
        "others": [one for one in references_to("user", number) if one.reason not in places],
    }
    return render_view(request, "users/replace.html", context, status=422 if form.errors else 200)


_FACTORS = {
    "totp": _("Authenticator app"),
    "webauthn": _("Passkeys and security keys"),
    "recovery_codes": _("Recovery codes"),
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
    text = (
        gettext("Two-factor authentication reset for %(name)s.")
        if was_removed
        else gettext("%(name)s has no second factor.")
    )
    messages.success(request, text % {"name": row.display_name})
    return redirect("user", number)


@require_POST
@requires(Permission.ADMINISTER)
def send_invitation(request: SignedInRequest, number: int) -> HttpResponse:
    send(request, find_object(USERS, number))
    return redirect("user", number)


def _create(request: SignedInRequest, form: InviteForm) -> User:
    with settings_store.exclusive(form.cleaned_data["group"]):
        user = users.save_user(form.spec(), actor=actor(request), now=request.now)
        group = form.cleaned_data["group"]
        if group is not None:
            spec = group_commands.group_spec(group)
            spec["members"].append({"user": user.username, "roles": form.cleaned_data["roles"]})
            group_commands.save_group(spec, existing=group, actor=actor(request), now=request.now)
    return user
