"""Groups with their members, contacts and who is on call now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST, require_safe

from tocsin.access.roles import MemberRole, Permission, Role
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.notify import notices
from tocsin.oncall import loader
from tocsin.oncall.calculation.final_schedule import OnCall
from tocsin.people import addresses
from tocsin.people.changes import groups as commands
from tocsin.people.changes.users import MAX_ANNOUNCEMENTS, AnnouncementSpec, AnnouncementTopic, GroupSpec
from tocsin.people.models import Group, User
from tocsin.reports.announcements import Preview, preview
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
from tocsin.web.ui.confirm_delete import FormSnapshot, ObjectPage
from tocsin.web.ui.forms import (
    ROLES,
    SpecForm,
    active_users,
    channel_choices,
    channel_name,
    checkboxes,
    rejections_shown,
    set_choices,
    show_rejection,
)
from tocsin.web.ui.object_list import ObjectList

MAX_ROWS = 200

#: What a member may do with the group's objects.
GROUP_ROLES = [("", _("As everywhere")), (Role.RESPONDER, _("Responder")), (Role.MANAGER, _("Manager"))]


class MemberForm(forms.Form):
    user = forms.ModelChoiceField(active_users(), label=_("User"), required=False, empty_label="–")
    role = forms.ChoiceField(label=_("Role in group"), choices=GROUP_ROLES, required=False)
    roles = checkboxes(_("On-call roles"), ROLES)
    position = forms.IntegerField(label=_("Order"), min_value=1, max_value=999, required=False)


class ContactForm(forms.Form):
    label = forms.CharField(label=_("Label"), max_length=100, required=False)
    channel = forms.ChoiceField(label=_("Channel"), choices=channel_choices, required=False)
    address = forms.CharField(label=_("Address"), max_length=500, required=False)


_TOPICS = [
    (AnnouncementTopic.ON_CALL, _("Who is on call, daily")),
    (AnnouncementTopic.HANDOVERS, _("Each handover")),
    (AnnouncementTopic.WEEK, _("Next week, on Fridays")),
    (AnnouncementTopic.GAPS, _("Gaps in the next 7 days, daily")),
    (AnnouncementTopic.MAINTENANCE, _("Maintenance")),
]


class AnnouncementForm(forms.Form):
    """What contacts of the group are notified of."""

    topics = checkboxes(_("Announce"), _TOPICS)
    contacts = checkboxes(_("Recipients"), help_text=_("None selected: every group contact."))
    at = forms.TimeField(
        label=_("Time of day"),
        initial="08:00",
        required=False,
        widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
    )
    language = forms.ChoiceField(
        label=_("Language"), initial="en", choices=[(code, _(name)) for code, name in settings.LANGUAGES]
    )
    roles = checkboxes(_("Roles"), ROLES, help_text=_("None selected: every role."))
    user_group = forms.CharField(
        label=_("Chat user group"),
        required=False,
        max_length=60,
        help_text=_("Its members are those on call. Example: slack:S0614TZR7"),
    )

    def __init__(self, *args: Any, labels: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        set_choices(self, "contacts", [(label, label) for label in labels])

    def spec(self) -> dict[str, Any]:
        data = self.cleaned_data
        at = f"{data['at']:%H:%M}" if data["at"] else None
        return {**{name: data[name] for name in ("topics", "contacts", "language", "roles", "user_group")}, "at": at}


MemberFormSet = forms.formset_factory(MemberForm, extra=1, can_delete=True, max_num=MAX_ROWS, absolute_max=MAX_ROWS + 5)
ContactFormSet = forms.formset_factory(ContactForm, extra=1, can_delete=True, max_num=20, absolute_max=25)
AnnouncementFormSet = forms.formset_factory(
    AnnouncementForm, extra=1, can_delete=True, max_num=MAX_ANNOUNCEMENTS, absolute_max=MAX_ANNOUNCEMENTS + 5
)


class GroupForm(SpecForm):
    """A group, with a row for each member, contact and announcement. What a row does not show of them is kept."""

    def __init__(self, data: Any = None, files: Any = None, **options: Any) -> None:
        super().__init__(data, files, **options)
        users = dict(User.objects.values_list("username", "pk"))
        initial_members = [
            {"role": "", **member, "user": users.get(member["user"]), "position": number}
            for number, member in enumerate(self.current.get("members", ()), start=1)
        ]
        initial_contacts = [
            # An address that is a secret is masked.
            {**contact, "address": addresses.display_form(contact["address"])}
            for contact in self.current.get("contacts", ())
        ]
        self.members = MemberFormSet(data, initial=initial_members, prefix="members")
        self.contacts = ContactFormSet(data, initial=initial_contacts, prefix="contacts")
        self.announcements = AnnouncementFormSet(
            data,
            initial=[{"at": "08:00", **one} for one in self.current.get("announcements", ())],
            prefix="announcements",
            form_kwargs={"labels": [contact["label"] for contact in initial_contacts]},
        )
        #: What the announcements would send, once it is asked for.
        self.preview: list[tuple[str, Preview]] | None = None

    def is_valid(self) -> bool:
        """Return whether the rows are valid too."""
        return all(
            [super().is_valid(), *(rows.is_valid() for rows in (self.members, self.contacts, self.announcements))]
        )

    def spec(self) -> dict[str, Any]:
        """Return the group in spec form, with its members in the order of their numbers."""
        members = [
            {"user": data["user"].username, "role": data["role"], "roles": list(data["roles"])}
            for data in (row.cleaned_data for row in self._filled_members())
        ]
        contacts = [
            {name: row.cleaned_data[name] for name in ("label", "channel", "address")}
            for row in _filled(self.contacts, "label", "address")
        ]
        return {
            **super().spec(),
            "members": self._with_stored("members", "user", members),
            "contacts": self._with_stored("contacts", "label", contacts) or None,
            "announcements": [row.spec() for row in self._filled_announcements()] or None,
        }

    def show(self, rejected: Rejected) -> None:
        """Show each problem at its field, or in its row."""
        rows = {
            "members": self._filled_members(),
            "contacts": _filled(self.contacts, "label", "address"),
            "announcements": self._filled_announcements(),
        }
        show_rejection(self, rejected, rows=rows)

    def _filled_announcements(self) -> list[Any]:
        return _filled(self.announcements, "topics", "user_group")

    def _filled_members(self) -> list[Any]:
        filled = _filled(self.members, "user")
        return sorted(filled, key=lambda row: row.cleaned_data["position"] or MAX_ROWS + 1)

    def _with_stored(self, key: str, name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        stored = {row[name]: row for row in self.current.get(key, ())}
        return [{**stored.get(row[name], {}), **row} for row in rows]


def _filled(rows: Any, *names: str) -> list[Any]:
    """Return the forms in which one of the fields is filled, and which are not to be deleted."""
    return [
        row
        for row in rows.forms
        if any(row.cleaned_data.get(name) for name in names) and not row.cleaned_data.get("DELETE")
    ]


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
    other_people = [person for person in people if person not in first and person.role is not MemberRole.LEAD]
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
        "announcements": [
            (one, [label for topic, label in _TOPICS if topic in one.topics])
            for one in AnnouncementSpec.read_list(row.announcements, "announcements")
        ],
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


class GroupPage(ObjectPage[Group]):
    """The form of a group. Whoever makes a new one begins as its primary."""

    template = "groups/edit.html"
    partials = ("preview",)
    form_type = GroupForm
    new_title = _("New group")
    shows_saved = True

    def begin(self, request: SignedInRequest) -> dict[str, Any]:
        # A new group would be the manager's own as soon as it is saved.
        require(request, Permission.MANAGE_TEAMS, None)
        own_member = {"user": request.user.username, "roles": ["primary"]}
        return {"time_zone": request.user.time_zone, "members": [own_member]}

    def save(
        self, request: SignedInRequest, form: GroupForm, row: Group | None, snapshot: FormSnapshot
    ) -> Group | None:
        """Save the group, unless only the announcements are to be previewed."""
        if request.POST.get("do") != "preview":
            return super().save(request, form, row, snapshot)
        read = GroupSpec.read(form.spec())
        with database.transaction() as connection:
            zone = read.time_zone or request.user.time_zone
            previews = preview(connection, row, zone, read.announcements, request.now) if row else []
        labels: dict[str, Any] = dict(_TOPICS)
        form.preview = [(labels[one.topic], one) for one in previews]
        return None

    def announce(self, request: SignedInRequest, saved: Group) -> None:
        if saved.memberships.exists():
            super().announce(request, saved)
        else:
            messages.warning(request, gettext("Saved without members: no user is paged through this group."))


edit = GroupPage(_LIST)
