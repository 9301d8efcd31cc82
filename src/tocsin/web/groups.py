"""Groups with their members, contacts and who is on call now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from django.utils.translation import gettext_lazy
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
    channel_choices,
    channel_name,
    field_error_text,
    offer_own_zone,
    problems_of,
    show_rejection,
)
from tocsin.web.ui.object_list import ObjectList

# ---------- forms
# Forms of a group: its settings, its members in paging order, and its group contacts.


MAX_ROWS = 200

#: What a member may do with the group's objects.
GROUP_ROLES = [("", _("As everywhere")), (Role.RESPONDER, _("Responder")), (Role.MANAGER, _("Manager"))]


class GroupForm(forms.Form):
    """Name, description and time zone."""

    name = forms.CharField(label=_("Name"), max_length=100)
    description = forms.CharField(
        label=_("Description"), max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 2})
    )
    time_zone = ZoneField()


class MemberForm(forms.Form):
    """One member with roles and position."""

    user = forms.ModelChoiceField(
        User.objects.filter(is_active=True).order_by("name", "username"),
        label=_("User"),
        required=False,
        empty_label="–",
    )
    role = forms.ChoiceField(label=_("Role in group"), choices=GROUP_ROLES, required=False)
    roles = forms.MultipleChoiceField(
        label=_("On-call roles"), choices=ROLES, required=False, widget=forms.CheckboxSelectMultiple
    )
    position = forms.IntegerField(label=_("Order"), min_value=1, max_value=999, required=False)


class ContactForm(forms.Form):
    """One contact of the whole group."""

    label = forms.CharField(label=_("Label"), max_length=100, required=False)
    channel = forms.ChoiceField(label=_("Channel"), choices=channel_choices, required=False)
    address = forms.CharField(label=_("Address"), max_length=500, required=False)


MemberFormSet = forms.formset_factory(MemberForm, extra=1, can_delete=True, max_num=MAX_ROWS, absolute_max=MAX_ROWS + 5)
ContactFormSet = forms.formset_factory(ContactForm, extra=1, can_delete=True, max_num=20, absolute_max=25)


def spec(form: GroupForm, members: Any, contacts: Any) -> dict[str, Any]:
    """Return the group in spec form."""
    member_data = [
        m.cleaned_data for m in members.forms if m.cleaned_data.get("user") and not m.cleaned_data.get("DELETE")
    ]
    member_data.sort(key=lambda data: data["position"] or MAX_ROWS + 1)
    contact_data = [
        c.cleaned_data
        for c in contacts.forms
        if (c.cleaned_data.get("label") or c.cleaned_data.get("address")) and not c.cleaned_data.get("DELETE")
    ]
    group_spec: dict[str, Any] = {
        **form.cleaned_data,
        "members": [
            {"user": data["user"].username, "role": data["role"], "roles": list(data["roles"])} for data in member_data
        ],
    }
    if contact_data:
        group_spec["contacts"] = [
            {name: data[name] for name in ("label", "channel", "address")} for data in contact_data
        ]
    return group_spec


def initial_contacts(stored_spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the initial contacts; an address that is a secret is masked."""
    return [
        {**contact, "address": addresses.display_form(contact["address"])}
        for contact in stored_spec.get("contacts", [])
    ]


def initial_members(stored_spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the initial members."""
    users = dict(User.objects.values_list("username", "pk"))
    return [
        {
            "user": users.get(member["user"]),
            "role": member.get("role", ""),
            "roles": member["roles"],
            "position": number,
        }
        for number, member in enumerate(stored_spec["members"], start=1)
    ]


# ---------- on call now
# Who is on call in each group: now, in the following steps, and after the current shift. Reads only.


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


# ---------- views
# Groups: who is on call, members, contacts, the form and the deletion.


_LIST = ObjectList(
    GROUPS,
    rows_template="groups/rows.html",
    empty_title=gettext_lazy("No groups yet"),
    empty_text=gettext_lazy("A group is a team with on-call roles: who is paged first, and who next."),
    icon="users-group",
    add_view="new_group",
    add_label=gettext_lazy("New group"),
)


@require_safe
def group_list(request: SignedInRequest) -> HttpResponse:
    """Render every group with who is on call now."""
    duties = {duty.group.pk: duty for duty in duties_on_call_now(request.now)}
    return _LIST.render(
        request,
        _LIST.matching(request, _sized()),
        lambda page: [(group, duties.get(group.pk), group.size) for group in page],
    )


@require_safe
def group(request: SignedInRequest, number: int) -> HttpResponse:
    """Render one group."""
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
    try:
        commands.show_addresses(row, member, actor=actor(request), now=request.now)
    except Rejected as rejected:
        messages.error(request, rejected.reason.localized())
    return redirect("group", number)


@require_POST
@requires(Permission.MANAGE_TEAMS)
def test_contact(request: SignedInRequest, number: int, contact: int) -> HttpResponse:
    """Send a test message to a group contact and show its result."""
    row = find_editable(request, GROUPS, number)
    found = find_row(row.contacts.all(), contact, "contact")
    try:
        with database.transaction() as connection:
            test_id = notices.queue_group_test(connection, found, request.user, request.now)
    except Rejected as rejected:
        messages.error(request, rejected.reason.localized())
        return redirect("group", number)
    return redirect("test_result", test_id)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_TEAMS)
def edit(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Create or edit a group."""
    row = find_object(GROUPS, number) if number is not None else None
    require(request, Permission.MANAGE_TEAMS, row)
    stored_spec: dict[str, Any] | None = commands.group_spec(row) if row else None
    form = GroupForm(request.POST or None, initial=stored_spec or {"time_zone": request.user.time_zone})
    if row is None:
        offer_own_zone(form)
    initial_rows = (
        initial_members(stored_spec)
        if stored_spec
        else [{"user": request.user.pk, "roles": ["primary"], "position": 1}]
    )
    members = MemberFormSet(request.POST or None, initial=initial_rows, prefix="members")
    contacts = ContactFormSet(
        request.POST or None, initial=initial_contacts(stored_spec) if stored_spec else [], prefix="contacts"
    )
    snapshot = FormSnapshot.of(request, GROUPS, row)
    if request.method == "POST" and all([form.is_valid(), members.is_valid(), contacts.is_valid()]):
        try:
            with snapshot.unchanged():
                saved = commands.save_group(
                    spec(form, members, contacts), existing=row, actor=actor(request), now=request.now
                )
        except Rejected as rejected:
            _show_errors(rejected, form, members, contacts)
        else:
            if saved.memberships.exists():
                messages.success(request, gettext("Saved."))
            else:
                messages.warning(request, gettext("Saved without members: no user is paged through this group."))
            return redirect("group", saved.pk)
    failed = form.errors or any(row_form.errors for row_form in [*members.forms, *contacts.forms])
    context = {
        "group": row,
        "form": form,
        "members": members,
        "contacts": contacts,
        "snapshot": snapshot,
    }
    return render_view(request, "groups/edit.html", context, status=422 if failed else 200)


def _sized() -> Any:
    return Group.objects.annotate(size=Count("memberships"))


def _show_errors(rejected: Rejected, form: GroupForm, members: Any, contacts: Any) -> None:
    """Show problems of a member or contact beside it, all others beside their field."""
    filled_contacts = [c for c in contacts.forms if c.cleaned_data.get("label") or c.cleaned_data.get("address")]
    for problem in problems_of(rejected):
        path = problem.field or ""
        index = path.partition("[")[2].partition("]")[0]
        text = field_error_text(problem)
        if path.startswith("contacts[") and index.isdecimal() and int(index) < len(filled_contacts):
            field = path.rpartition(".")[2]
            target = filled_contacts[int(index)]
            target.add_error(field if field in target.fields else None, text)
        elif path.startswith("members["):
            form.add_error(None, text)
        else:
            show_rejection(form, problem)
