"""Groups: who is on call, members, contacts, the form and the deletion."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.notify.enqueue import contact_tests
from tocsin.oncall import loader
from tocsin.people.changes import groups as commands
from tocsin.people.models import Group, User
from tocsin.resources.registry import GROUPS
from tocsin.web.groups import on_call_now
from tocsin.web.groups.forms import ContactFormSet, GroupForm, MemberFormSet, initial_contacts, initial_members, spec
from tocsin.web.http.authorization import actor, may, require, requires
from tocsin.web.http.objects import find_editable, find_object, find_row
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.ui.choices import channel_name
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import field_error_text, offer_own_zone, problems_of, show_rejection
from tocsin.web.ui.object_list import ObjectList

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
    duties = {duty.group.pk: duty for duty in on_call_now.duties(request.now)}
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
        raise PermissionDenied(_("Only the user or an administrator can do this."))
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
            test_id = contact_tests.queue_group_test(connection, found, request.user, request.now)
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
                messages.success(request, _("Saved."))
            else:
                messages.warning(request, _("Saved without members: no user is paged through this group."))
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
