"""Groups with their members, contacts and who is on call now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import MemberRole, Permission, Role
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.notify import notices
from tocsin.oncall import loader
from tocsin.oncall.calculation.final_schedule import OnCall
from tocsin.people import addresses
from tocsin.people.changes import groups as commands
from tocsin.people.models import Group, User
from tocsin.resources.registry import GROUPS
from tocsin.web.http.request import (
    SignedInRequest,
    actor,
    find_editable,
    find_object,
    find_row,
    may,
    render_view,
    require,
    requires,
)
from tocsin.web.ui.confirm_delete import FormSnapshot
from tocsin.web.ui.forms import (
    ROLES,
    ZoneField,
    active_users,
    channel_choices,
    channel_name,
    checkboxes,
    offer_own_zone,
    rejections_shown,
    show_rejection,
)
from tocsin.web.ui.object_list import ObjectList

MAX_ROWS = 200

#: What a member may do with the group's objects.
GROUP_ROLES = [("", _("As everywhere")), (Role.RESPONDER, _("Responder")), (Role.MANAGER, _("Manager"))]


class GroupForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=100)
    description = forms.CharField(
        label=_("Description"), max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 2})
    )
    time_zone = ZoneField()


class MemberForm(forms.Form):
    user = forms.ModelChoiceField(active_users(), label=_("User"), required=False, empty_label="–")
    role = forms.ChoiceField(label=_("Role in group"), choices=GROUP_ROLES, required=False)
    roles = checkboxes(_("On-call roles"), ROLES)
    position = forms.IntegerField(label=_("Order"), min_value=1, max_value=999, required=False)


class ContactForm(forms.Form):
    label = forms.CharField(label=_("Label"), max_length=100, required=False)
    channel = forms.ChoiceField(label=_("Channel"), choices=channel_choices, required=False)
    address = forms.CharField(label=_("Address"), max_length=500, required=False)


MemberFormSet = forms.formset_factory(MemberForm, extra=1, can_delete=True, max_num=MAX_ROWS, absolute_max=MAX_ROWS + 5)
ContactFormSet = forms.formset_factory(ContactForm, extra=1, can_delete=True, max_num=20, absolute_max=25)


def _filled(rows: Any, *names: str) -> list[Any]:
    """Return the forms in which one of the fields is filled, and which are not to be deleted."""
    return [
        row
        for row in rows.forms
        if any(row.cleaned_data.get(name) for name in names) and not row.cleaned_data.get("DELETE")
    ]


def spec(form: GroupForm, members: Sequence[MemberForm], contacts: Sequence[ContactForm]) -> dict[str, Any]:
    names = ("label", "channel", "address")
    contact_specs = [{name: contact.cleaned_data[name] for name in names} for contact in contacts]
    member_specs = [
        {"user": data["user"].username, "role": data["role"], "roles": list(data["roles"])}
        for data in (member.cleaned_data for member in members)
    ]
    return {**form.cleaned_data, "members": member_specs, **({"contacts": contact_specs} if contact_specs else {})}


# ---------- on call now


@dataclass(frozen=True, slots=True)
class GroupDuty:
    """The users on call in one group: the primary, the users whom the next steps page, and the primary's successor."""

    group: Group
    now: Sequence[OnCall]
    next: Sequence[OnCall]
    #: End of the primary's shift, if it has one, and the display name of the primary from then on.
    until: datetime | None = None
    next_primary: str = ""


def duties_on_call_now(now: datetime) -> list[GroupDuty]:
    """Return every group with members and who is on call in it. Without a shift for a role, the group's member order
    applies."""
    groups = list(Group.objects.filter(memberships__isnull=False).distinct())
    with database.transaction() as connection:
        on_call_by_group = loader.on_call(connection, [group.pk for group in groups], now)
        return [_duty(connection, group, on_call_by_group.get(group.pk, ())) for group in groups]


def _duty(connection: Connection, group: Group, people: Sequence[OnCall]) -> GroupDuty:
    first = [person for person in people if person.role is MemberRole.PRIMARY][:1]
    other_people = [person for person in people if person not in first and person.role is not MemberRole.MANAGER]
    until = first[0].until if first else None
    if until is None:
        return GroupDuty(group, first, other_people[:3])
    next_on_call = loader.on_call(connection, [group.pk], until).get(group.pk, ())
    next_primary = next((person.name for person in next_on_call if person.role is MemberRole.PRIMARY), "")
    return GroupDuty(group, first, other_people[:3], until, next_primary)


_LIST = ObjectList(
    GROUPS,
    rows_template="groups/rows.html",
    empty_title=_("No groups yet"),
    empty_text=_("A group is a team with on-call roles: who is paged first, and who next."),
    icon="users-group",
    add_view="new_group",
    add_label=_("New group"),
)


@require_safe
def group_list(request: SignedInRequest) -> HttpResponse:
    """Render every group with who is on call now."""
    duties = {duty.group.pk: duty for duty in duties_on_call_now(request.now)}
    return _LIST.render(
        request,
        _LIST.matching(request, Group.objects.annotate(size=Count("memberships"))),
        lambda page: [(group, duties.get(group.pk), group.size) for group in page],
    )


@require_safe
def group(request: SignedInRequest, number: int) -> HttpResponse:
    row = find_object(GROUPS, number)
    viewer = request.viewer
    memberships = list(row.memberships.select_related("user").prefetch_related("user__contact_methods"))
    contacts = [
        (contact, channel_name(contact.channel), viewer.group_address(row, contact.channel, contact.address))
        for contact in row.contacts.all()
    ]
    masked = [membership for membership in memberships if not membership.shows_addresses]
    with database.transaction() as connection:
        on_call = loader.on_call(connection, [row.pk], request.now).get(row.pk, ())
    context = {
        "group": row,
        "memberships": memberships,
        "masked": {membership.pk for membership in masked},
        "may_show": {membership.pk for membership in masked if viewer.can_view_addresses_of(membership.user_id)},
        "contacts": contacts,
        "on_call": on_call,
        "may_change": may(request, Permission.MANAGE_TEAMS, row),
    }
    return render_view(request, "groups/group.html", context)


@require_POST
def show_addresses(request: SignedInRequest, number: int, user: int) -> HttpResponse:
    """Let the group's members see a user's addresses. Needed when the user was added by somebody who could not see
    them."""
    row = find_object(GROUPS, number)
    member = User.objects.filter(pk=user).first()
    if member is None or not request.viewer.can_view_addresses_of(user):
        raise PermissionDenied(gettext("Only the user or an administrator can do this."))
    with rejections_shown(request):
        commands.show_addresses(row, member, actor=actor(request), now=request.now)
    return redirect("group", number)


@require_POST
@requires(Permission.MANAGE_TEAMS)
def test_contact(request: SignedInRequest, number: int, contact: int) -> HttpResponse:
    """Send a test message to a group contact and show its result."""
    row = find_editable(request, GROUPS, number)
    found = find_row(row.contacts.all(), contact, "contact")
    with rejections_shown(request):
        with database.transaction() as connection:
            test_id = notices.queue_group_test(connection, found, request.user, request.now)
        return redirect("test_result", test_id)
    return redirect("group", number)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_TEAMS)
def edit(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    row = find_object(GROUPS, number) if number is not None else None
    require(request, Permission.MANAGE_TEAMS, row)
    stored: dict[str, Any] = commands.group_spec(row) if row else {"time_zone": request.user.time_zone}
    form = GroupForm(request.POST or None, initial=stored)
    if row is None:
        offer_own_zone(form)
    users = dict(User.objects.values_list("username", "pk"))
    own_member = {"user": request.user.username, "roles": ["primary"]}
    initial_members = [
        {"role": "", **member, "user": users.get(member["user"]), "position": number}
        for number, member in enumerate(stored.get("members", [own_member]), start=1)
    ]
    initial_contacts = [
        # An address that is a secret is masked.
        {**contact, "address": addresses.display_form(contact["address"])}
        for contact in stored.get("contacts", [])
    ]
    members = MemberFormSet(request.POST or None, initial=initial_members, prefix="members")
    contacts = ContactFormSet(request.POST or None, initial=initial_contacts, prefix="contacts")
    snapshot = FormSnapshot.of(request, GROUPS, row)
    if request.method == "POST" and all([form.is_valid(), members.is_valid(), contacts.is_valid()]):
        filled_members = _filled(members, "user")
        filled_members.sort(key=lambda member: member.cleaned_data["position"] or MAX_ROWS + 1)
        filled_contacts = _filled(contacts, "label", "address")
        try:
            with snapshot.unchanged():
                posted = spec(form, filled_members, filled_contacts)
                saved = commands.save_group(posted, existing=row, actor=actor(request), now=request.now)
        except Rejected as rejected:
            show_rejection(form, rejected, rows={"members": filled_members, "contacts": filled_contacts})
        else:
            if saved.memberships.exists():
                messages.success(request, gettext("Saved."))
            else:
                messages.warning(request, gettext("Saved without members: no user is paged through this group."))
            return redirect("group", saved.pk)
    failed = form.errors or any(row_form.errors for row_form in [*members.forms, *contacts.forms])
    context = {"group": row, "form": form, "members": members, "contacts": contacts, "snapshot": snapshot}
    return render_view(request, "groups/edit.html", context, status=422 if failed else 200)
