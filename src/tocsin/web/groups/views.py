"""Groups: who is on call, members, contacts, the form and the deletion."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.notify.enqueue import contact_tests
from tocsin.oncall import loader
from tocsin.people import permissions
from tocsin.people.changes import groups as commands
from tocsin.people.models import Group, User
from tocsin.web.groups import on_call_now
from tocsin.web.groups.forms import ContactFormSet, GroupForm, MemberFormSet, initial_contacts, initial_members, spec
from tocsin.web.http.authorization import actor, may, require, requires
from tocsin.web.http.request import SignedInRequest, page
from tocsin.web.ui.choices import channel_name
from tocsin.web.ui.confirm_delete import ask_and_delete
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import each, errors_beside, offer_own_zone, show_rejection


@require_safe
def group_list(request: SignedInRequest) -> HttpResponse:
    """Render every group with who is on call now."""
    duties = {duty.group.pk: duty for duty in on_call_now.duties(request.now)}
    rows = [(group, duties.get(group.pk), group.size) for group in _sized()]
    return page(request, "groups/list.html", {"rows": rows, "may_add": may(request, Permission.TEAMS)})


@require_safe
def group(request: SignedInRequest, number: int) -> HttpResponse:
    """Render one group."""
    row = find(number)
    viewer = permissions.viewer(request.user)
    memberships = list(row.memberships.select_related("user").prefetch_related("user__contact_methods"))
    contacts = [
        (contact, channel_name(contact.channel), viewer.group_address(row, contact.channel, contact.address))
        for contact in row.contacts.all()
    ]
    masked = [one for one in memberships if not one.shows_addresses]
    with database.transaction() as connection:
        on_call = loader.on_call(connection, [row.pk], request.now).get(row.pk, ())
    context = {
        "group": row,
        "memberships": memberships,
        "masked": {one.pk for one in masked},
        "may_show": {one.pk for one in masked if viewer.sees_addresses_of(one.user_id)},
        "contacts": contacts,
        "on_call": on_call,
        "may_change": may(request, Permission.TEAMS, row),
    }
    return page(request, "groups/group.html", context)


@require_POST
def show_addresses(request: SignedInRequest, number: int, user: int) -> HttpResponse:
    """Let the group's members see a user's addresses. Needed when the user was added by somebody who could not see
    them."""
    row = find(number)
    member = User.objects.filter(pk=user).first()
    if member is None or not permissions.viewer(request.user).sees_addresses_of(user):
        raise PermissionDenied(_("It takes the user or an administrator."))
    try:
        commands.show_addresses(row, member, actor=actor(request), now=request.now)
    except Rejected as rejected:
        messages.error(request, rejected.detail)
    return redirect("group", number)


@require_POST
@requires(Permission.TEAMS)
def test_contact(request: SignedInRequest, number: int, contact: int) -> HttpResponse:
    """Send a test message to a group contact and show its result."""
    row = find(number)
    require(request, Permission.TEAMS, row)
    if not row.contacts.filter(pk=contact).exists():
        raise Http404(_("This contact is gone."))
    try:
        with database.transaction() as connection:
            sent = contact_tests.queue_group_test(connection, request.user.pk, contact, request.now)
    except Rejected as rejected:
        messages.error(request, rejected.detail)
        return redirect("group", number)
    return redirect("test_result", sent)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.TEAMS)
def edit(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Create or edit a group."""
    row = find(number) if number is not None else None
    require(request, Permission.TEAMS, row)
    written: dict[str, Any] | None = commands.group_spec(row) if row else None
    form = GroupForm(request.POST or None, initial=written or {"time_zone": request.user.time_zone})
    if row is None:
        offer_own_zone(form)
    begin = initial_members(written) if written else [{"user": request.user.pk, "roles": ["primary"], "position": 1}]
    members = MemberFormSet(request.POST or None, initial=begin, prefix="members")
    contacts = ContactFormSet(
        request.POST or None, initial=initial_contacts(written) if written else [], prefix="contacts"
    )
    seen = FormSnapshot.of(request, "group", row, commands.group_spec)
    if request.method == "POST" and all([form.is_valid(), members.is_valid(), contacts.is_valid()]):
        try:
            with seen.unchanged():
                saved = commands.save_group(
                    spec(form, members, contacts), existing=row, actor=actor(request), now=request.now
                )
        except Rejected as rejected:
            _show(rejected, form, members, contacts)
        else:
            messages.success(request, _("Saved."))
            return redirect("group", saved.pk)
    failed = form.errors or any(one.errors for one in [*members.forms, *contacts.forms])
    context = {
        "group": row,
        "form": form,
        "members": members,
        "contacts": contacts,
        "seen": seen,
    }
    return page(request, "groups/edit.html", context, status=422 if failed else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.TEAMS)
def delete(request: SignedInRequest, number: int) -> HttpResponse:
    """Ask for confirmation, listing the references; then delete the group."""
    row = find(number)
    require(request, Permission.TEAMS, row)
    return ask_and_delete(
        request,
        row,
        commands.delete_group,
        what=row.name,
        back="group",
        then=("groups",),
        about=_("Its members stay; only the group goes."),
        seen=FormSnapshot.of(request, "group", row, commands.group_spec, is_deleting=True),
        noun="group",
    )


def find(number: int) -> Group:
    """Return the group. Raises Http404."""
    row = Group.objects.filter(pk=number).first()
    if row is None:
        raise Http404(_("This group is gone."))
    return row


def _sized() -> Any:
    return Group.objects.annotate(size=Count("memberships"))


def _show(rejected: Rejected, form: GroupForm, members: Any, contacts: Any) -> None:
    """Show problems of a member or contact beside it, all others beside their field."""
    kept_contacts = [c for c in contacts.forms if c.cleaned_data.get("label") or c.cleaned_data.get("address")]
    for problem in each(rejected):
        place = problem.field or ""
        index = place.partition("[")[2].partition("]")[0]
        text = errors_beside(problem)
        if place.startswith("contacts[") and index.isdecimal() and int(index) < len(kept_contacts):
            field = place.rpartition(".")[2]
            target = kept_contacts[int(index)]
            target.add_error(field if field in target.fields else None, text)
        elif place.startswith("members["):
            form.add_error(None, text)
        else:
            show_rejection(form, problem)
