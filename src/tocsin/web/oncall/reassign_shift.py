"""Reassigns a period of on-call duty: take a shift, hand one over, ask for a swap, or add an override.

One view covers all of these and shows who is on call in the period and why; the timeline opens it in a dialog.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from tocsin.access.roles import Permission
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import as_reason
from tocsin.core.validation.spec_types import write_moment
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule, weekly_windows
from tocsin.oncall.calculation.final_schedule import OnCall
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.oncall.changes import overrides, swaps
from tocsin.oncall.changes.swaps import ShiftRange
from tocsin.oncall.models import Schedule
from tocsin.people import permissions
from tocsin.people.member_roles import MemberRole
from tocsin.people.models import Group, User
from tocsin.resources.registry import GROUPS
from tocsin.web.http.authorization import actor, may
from tocsin.web.http.objects import find_object
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.oncall.reassign_shift_forms import ReassignChoices, ReassignForm, return_options
from tocsin.web.ui.forms import show_rejection, user_zone

#: Length of a period if the URL names none.
_DEFAULT_RANGE = timedelta(hours=12)
#: How far ahead colleagues' shifts are offered in return.
_RETURN_HORIZON = timedelta(days=45)
#: Maximum period that is evaluated; the requested period may be longer.
_MAX_RANGE = timedelta(days=62)
_PLACES = {
    "from": "begins", "to": "ends", "return_from": "in_return", "return_to": "in_return", "shift": "instead_of",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReassignRequest:
    """The period to reassign. `user_id` is the user on call, if one user's segment was selected."""

    since: datetime
    until: datetime
    role: MemberRole | None
    user_id: int | None
    schedule: Schedule | None


@require_safe
def choose_group(request: SignedInRequest) -> HttpResponse:
    """Render the groups with schedules, the user's own first; with only one, redirect to its form."""
    own_group_ids = permissions.own_groups(request.user)
    groups = Group.objects.filter(schedules__isnull=False).distinct()
    ordered = sorted(groups, key=lambda group: (group.pk not in own_group_ids, group.name.casefold()))
    if len(ordered) == 1:
        return redirect("reassign", ordered[0].pk)
    return render_view(request, "oncall/choose_group.html", {"groups": ordered})


@require_http_methods(["GET", "HEAD", "POST"])
def reassign(request: SignedInRequest, number: int) -> HttpResponse:
    """Render who is on call in the period and why, with the form to reassign it; or reassign it."""
    group = find_object(GROUPS, number)
    schedules = list(Schedule.objects.filter(group=group).select_related("group"))
    with database.transaction() as connection:
        plan = loader.plan(connection, group.pk, request.now) or GroupPlan(group.pk, group.name)
    requested = _requested_range(request, schedules, plan)
    occupants = _occupants(plan, requested)
    is_manager = may(request, Permission.MANAGE_TEAMS, group)
    form = _form(request, is_manager, schedules, plan, requested, occupants)
    if request.method == "POST" and form.is_valid() and (success_text := _reassign_posted(request, group, form)):
        messages.success(request, success_text)
        day = weekly_windows.day_of(max(form.cleaned_data["begins"], request.now), user_zone())
        return redirect(f"{reverse('group_schedule', args=[group.pk])}?day={day.isoformat()}")
    context = {
        "group": group,
        "form": form,
        "is_manager": is_manager,
        "requested": requested,
        "occupants": occupants,
        "has_schedule": bool(schedules),
        "is_over": requested.until <= request.now,
        "is_by_order": not form.can_reassign,
        "may_reassign": is_manager or form.may_take_over or form.is_own,
        "zone": user_zone().key,
    }
    return render_view(request, "oncall/reassign.html", context, partials=("form",), status=422 if form.errors else 200)


def _requested_range(request: SignedInRequest, schedules: list[Schedule], plan: GroupPlan) -> ReassignRequest:
    """Return the period from the URL, or the current shift of the first user on call."""
    query = request.GET
    since, until = _moment(query.get("from", "")), _moment(query.get("to", ""))
    role = MemberRole(query["role"]) if query.get("role") in list(MemberRole) else None
    user = query.get("user", "")
    user_id = int(user) if user.isdecimal() and user.isascii() and len(user) < 18 else None
    schedule = next((candidate for candidate in schedules if candidate.name == query.get("schedule")), None)
    if since is None and until is None:
        current = next(iter(final_schedule.on_call(plan, request.now)), None)
        if current is not None:
            role, user_id, until = role or current.role, user_id or current.user_id, current.until
            schedule = schedule or next(
                (candidate for candidate in schedules if candidate.name == current.schedule), None
            )
    since = since or request.now.replace(second=0, microsecond=0)
    if until is None or until <= since:
        until = since + _DEFAULT_RANGE
    # The past cannot be changed, so the period starts now.
    if since < request.now < until:
        since = request.now.replace(second=0, microsecond=0)
    return ReassignRequest(since, until, role, user_id, schedule or next(iter(schedules), None))


def _moment(text: str) -> datetime | None:
    try:
        moment = parse_datetime(text)
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None and 1970 < moment.year < 2190 else None


def _occupants(plan: GroupPlan, requested: ReassignRequest) -> list[OnCall]:
    """Return who is on call in the period, up to the maximum range."""
    until = min(requested.until, requested.since + _MAX_RANGE)
    timeline = final_schedule.timeline(plan, requested.since, until)
    return [
        segment
        for segment in timeline.segments
        if requested.role in (None, segment.role) and requested.user_id in (None, segment.user_id)
    ]  # fmt: skip


def _form(
    request: SignedInRequest,
    is_manager: bool,
    schedules: list[Schedule],
    plan: GroupPlan,
    requested: ReassignRequest,
    occupants: list[OnCall],
) -> ReassignForm:
    me = request.user
    scheduled = [segment for segment in occupants if segment.schedule]
    is_involved = any(swaps.is_involved(schedule, me) for schedule in schedules)
    is_sent = request.method == "POST"
    ids = list(dict.fromkeys(segment.user_id for segment in scheduled))
    everybody = {number: person.name for number, person in plan.users.items() if person.is_active}
    upcoming = (
        final_schedule.timeline(plan, request.now, request.now + _RETURN_HORIZON).segments if me.pk in everybody else ()
    )
    choices = ReassignChoices(
        schedules=schedules,
        holders=everybody if is_sent else {number: plan.name_of(number) for number in ids},
        team=everybody,
        other_users=_users_outside(everybody) if is_manager else {},
        returns=return_options(
            [
                segment
                for segment in upcoming
                # Of a shift that is on, only a rest would change hands, or nothing once the request is accepted.
                if segment.schedule and segment.user_id != me.pk and segment.since and segment.since > request.now
            ]
        ),
        is_manager=is_manager,
        is_gap=is_involved and not occupants and requested.user_id is None,
    )
    begin = {
        "schedule": requested.schedule.pk if requested.schedule else None,
        "role": requested.role or "",
        "begins": requested.since,
        "ends": requested.until,
        "instead_of": _initial_instead_of(requested, scheduled, is_manager),
    }
    sent = request.POST.copy() if is_sent else None
    if sent is not None and "take" in sent:
        sent["user"] = str(me.pk)
    form = ReassignForm(sent, initial=begin, choices=choices)
    form.can_reassign = bool(choices.holders) or is_manager or choices.is_gap
    form.is_gap = choices.is_gap
    form.may_take_over = is_involved and (choices.is_gap or any(segment.user_id != me.pk for segment in scheduled))
    form.is_own = (
        me.pk in everybody and (requested.user_id in (None, me.pk)) and any(o.user_id == me.pk for o in occupants)
    )
    return form


def _initial_instead_of(requested: ReassignRequest, occupants: list[OnCall], is_manager: bool) -> str:
    """Return the preselected value of "instead of"."""
    people = list(dict.fromkeys(segment.user_id for segment in occupants))
    if requested.user_id in people or len(people) == 1:
        return f"user-{requested.user_id if requested.user_id in people else people[0]}"
    if is_manager or not people:
        return "role" if requested.role or not is_manager else "schedule"
    return f"user-{people[0]}"


def _users_outside(team: dict[int, str]) -> dict[int, str]:
    rows = User.objects.filter(is_active=True).exclude(pk__in=team).order_by("name", "username")
    return {user.pk: user.display_name for user in rows}


def _reassign_posted(request: SignedInRequest, group: Group, form: ReassignForm) -> str:
    """Reassign the period as posted. Return a sentence about the result, or "" if the form has errors."""
    data = form.cleaned_data
    schedule: Schedule = data["schedule"]
    to_user = User.objects.get(pk=data["user"])
    shift_range = ShiftRange(data["begins"], data["ends"], MemberRole(data["role"]) if data["role"] else None)
    kind, _sign, target = data["instead_of"].partition("-")
    try:
        if kind != "user":
            return _override(request, group, schedule, to_user, shift_range, target if kind == "shift" else None, kind)
        from_user = User.objects.get(pk=int(target))
        if "ask" in form.data:
            return _request_swap(request, schedule, from_user, to_user, shift_range, form)
        return _reassign_directly(request, group, schedule, from_user, to_user, shift_range)
    except Rejected as rejected:
        show_rejection(form, rejected, _PLACES)
        return ""


def _reassign_directly(
    request: SignedInRequest, group: Group, schedule: Schedule, from_user: User, to_user: User, shift_range: ShiftRange
) -> str:
    me = request.user
    is_taking_over = to_user == me and swaps.is_involved(schedule, me)
    if not (is_taking_over or from_user == me or may(request, Permission.MANAGE_TEAMS, group)):
        detail = _("Only group managers can reassign someone else's shift. Group members can take over the shift.")
        raise Rejected("forbidden", as_reason(detail), "user")
    swaps.transfer_shift(
        schedule, shift_range, current_user=from_user, new_user=to_user, actor=actor(request), now=request.now
    )
    return _("%(to)s is on call instead of %(of)s.") % {"to": to_user.display_name, "of": from_user.display_name}


def _request_swap(
    request: SignedInRequest,
    schedule: Schedule,
    from_user: User,
    to_user: User,
    shift_range: ShiftRange,
    form: ReassignForm,
) -> str:
    if from_user != request.user:
        raise Rejected("forbidden", as_reason(_("Only your own shift can be offered.")), "instead_of")
    return_shift = form.return_shift()
    if return_shift is not None and return_shift[0] != to_user.pk:
        raise Rejected(
            "invalid",
            as_reason(_("This shift does not belong to %(name)s.") % {"name": to_user.display_name}),
            "return_from",
        )
    swaps.request_swap(
        schedule,
        shift_range,
        requester=request.user,
        requested_user=to_user,
        in_return=return_shift[1] if return_shift else None,
        message=form.cleaned_data["message"],
        actor=actor(request),
        now=request.now,
    )
    return _("Request sent to %(name)s. The shift stays yours until they accept.") % {"name": to_user.display_name}


def _override(
    request: SignedInRequest,
    group: Group,
    schedule: Schedule,
    to_user: User,
    shift_range: ShiftRange,
    shift: str | None,
    kind: str,
) -> str:
    if not may(request, Permission.MANAGE_TEAMS, group):
        if kind != "role" or to_user != request.user or not swaps.is_involved(schedule, to_user):
            detail = _("Only group managers can assign someone else to a coverage gap.")
            raise Rejected("forbidden", as_reason(detail), "instead_of")
        swaps.fill_gap(schedule, shift_range, user=to_user, actor=actor(request), now=request.now)
        return _("%(name)s is on call for this period.") % {"name": to_user.display_name}
    spec = {
        "schedule": schedule.name,
        "user": to_user.username,
        "from": write_moment(shift_range.starts_at),
        "to": write_moment(shift_range.ends_at),
    }
    if shift:
        spec["shift"] = shift
    elif kind == "role":
        if shift_range.role is None:
            raise Rejected("missing", as_reason(_("Select a role.")), "role")
        spec["role"] = str(shift_range.role)
    overrides.save_override(spec, actor=actor(request), now=request.now)
    return _("%(name)s is on call for this period.") % {"name": to_user.display_name}
