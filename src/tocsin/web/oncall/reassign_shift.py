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
from django.views.decorators.http import require_http_methods

from tocsin.access.roles import Permission
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule, weekly_windows
from tocsin.oncall.calculation.final_schedule import OnCall
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.oncall.changes import overrides, swaps
from tocsin.oncall.changes.specs import write_moment
from tocsin.oncall.changes.swaps import ShiftRange
from tocsin.oncall.models import Schedule
from tocsin.people.member_roles import MemberRole
from tocsin.people.models import Group, User
from tocsin.web.groups.views import find
from tocsin.web.http.authorization import actor, may
from tocsin.web.http.request import SignedInRequest, page
from tocsin.web.oncall.reassign_shift_forms import ReassignChoices, ReassignForm, returns
from tocsin.web.ui.forms import reader_zone, show_rejection

#: Length of a period if the URL names none.
_DEFAULT_RANGE = timedelta(hours=12)
#: How far ahead colleagues' shifts are offered in return.
_LOOK_AHEAD = timedelta(days=45)
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


@require_http_methods(["GET", "HEAD", "POST"])
def stand_in(request: SignedInRequest, number: int) -> HttpResponse:
    """Render who is on call in the period and why, with the form to reassign it; or reassign it."""
    group = find(number)
    schedules = list(Schedule.objects.filter(group=group).select_related("group"))
    with database.transaction() as connection:
        plan = loader.plan(connection, group.pk, request.now) or GroupPlan(group.pk, group.name)
    wanted = _wanted(request, schedules, plan)
    held = _held(plan, wanted)
    is_manager = may(request, Permission.TEAMS, group)
    form = _form(request, is_manager, schedules, plan, wanted, held)
    if request.method == "POST" and form.is_valid() and (said := _done(request, group, form)):
        messages.success(request, said)
        day = weekly_windows.day_of(max(form.cleaned_data["begins"], request.now), reader_zone())
        return redirect(f"{reverse('group_schedule', args=[group.pk])}?day={day.isoformat()}")
    context = {
        "group": group,
        "form": form,
        "is_manager": is_manager,
        "wanted": wanted,
        "held": held,
        "has_schedule": bool(schedules),
        "is_over": wanted.until <= request.now,
        "is_by_order": not form.offers,
        "may_do": is_manager or form.takes or form.is_mine,
        "zone": reader_zone().key,
    }
    return page(request, "oncall/stand_in.html", context, parts=("form",), status=422 if form.errors else 200)


def _wanted(request: SignedInRequest, schedules: list[Schedule], plan: GroupPlan) -> ReassignRequest:
    """Return the period from the URL, or the current shift of the first user on call."""
    said = request.GET
    since, until = _moment(said.get("from", "")), _moment(said.get("to", ""))
    role = MemberRole(said["role"]) if said.get("role") in list(MemberRole) else None
    user = said.get("user", "")
    user_id = int(user) if user.isdecimal() and user.isascii() and len(user) < 18 else None
    schedule = next((one for one in schedules if one.name == said.get("schedule")), None)
    if since is None and until is None:
        now = next(iter(final_schedule.on_call(plan, request.now)), None)
        if now is not None:
            role, user_id, until = role or now.role, user_id or now.user_id, now.until
            schedule = schedule or next((one for one in schedules if one.name == now.schedule), None)
    since = since or request.now.replace(second=0, microsecond=0)
    if until is None or until <= since:
        until = since + _DEFAULT_RANGE
    # The past cannot be changed, so the period starts now.
    if since < request.now < until:
        since = request.now.replace(second=0, microsecond=0)
    return ReassignRequest(since, until, role, user_id, schedule or next(iter(schedules), None))


def _moment(text: str) -> datetime | None:
    try:
        found = parse_datetime(text)
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None and 1970 < found.year < 2190 else None


def _held(plan: GroupPlan, wanted: ReassignRequest) -> list[OnCall]:
    """Return who is on call in the period, up to the maximum range."""
    until = min(wanted.until, wanted.since + _MAX_RANGE)
    drawn = final_schedule.timeline(plan, wanted.since, until)
    return [
        one
        for one in drawn.segments
        if wanted.role in (None, one.role) and wanted.user_id in (None, one.user_id)
    ]  # fmt: skip


def _form(
    request: SignedInRequest,
    is_manager: bool,
    schedules: list[Schedule],
    plan: GroupPlan,
    wanted: ReassignRequest,
    held: list[OnCall],
) -> ReassignForm:
    me = request.user
    by_schedule = [one for one in held if one.schedule]
    belongs = any(swaps.is_involved(schedule, me) for schedule in schedules)
    is_sent = request.method == "POST"
    ids = list(dict.fromkeys(one.user_id for one in by_schedule))
    everybody = {number: person.name for number, person in plan.people.items() if person.is_active}
    upcoming = (
        final_schedule.timeline(plan, request.now, request.now + _LOOK_AHEAD).segments if me.pk in everybody else ()
    )
    choices = ReassignChoices(
        schedules=schedules,
        holders=everybody if is_sent else {number: plan.name_of(number) for number in ids},
        team=everybody,
        others=_others(everybody) if is_manager else {},
        returns=returns([one for one in upcoming if one.schedule and one.user_id != me.pk]),
        is_manager=is_manager,
        fills=belongs and not held and wanted.user_id is None,
    )
    begin = {
        "schedule": wanted.schedule.pk if wanted.schedule else None,
        "role": wanted.role or "",
        "begins": wanted.since,
        "ends": wanted.until,
        "instead_of": _whose(wanted, by_schedule, is_manager),
    }
    sent = request.POST.copy() if is_sent else None
    if sent is not None and "take" in sent:
        sent["user"] = str(me.pk)
    form = ReassignForm(sent, initial=begin, choices=choices)
    form.offers = bool(choices.holders) or is_manager or choices.fills
    form.fills = choices.fills
    form.takes = belongs and (choices.fills or any(one.user_id != me.pk for one in by_schedule))
    form.is_mine = me.pk in everybody and (wanted.user_id in (None, me.pk)) and any(o.user_id == me.pk for o in held)
    return form


def _whose(wanted: ReassignRequest, held: list[OnCall], is_manager: bool) -> str:
    """Return the preselected value of "instead of"."""
    people = list(dict.fromkeys(one.user_id for one in held))
    if wanted.user_id in people or len(people) == 1:
        return f"user-{wanted.user_id if wanted.user_id in people else people[0]}"
    if is_manager or not people:
        return "role" if wanted.role or not is_manager else "schedule"
    return f"user-{people[0]}"


def _others(known: dict[int, str]) -> dict[int, str]:
    rows = User.objects.filter(is_active=True).exclude(pk__in=known).order_by("name", "username")
    return {user.pk: user.display_name for user in rows}


def _done(request: SignedInRequest, group: Group, form: ReassignForm) -> str:
    """Reassign the period as posted. Return a sentence about the result, or "" if the form has errors."""
    data = form.cleaned_data
    schedule: Schedule = data["schedule"]
    to = User.objects.get(pk=data["user"])
    stretch = ShiftRange(data["begins"], data["ends"], MemberRole(data["role"]) if data["role"] else None)
    kind, _sign, rest = data["instead_of"].partition("-")
    try:
        if kind != "user":
            return _override(request, group, schedule, to, stretch, rest if kind == "shift" else None, kind)
        of = User.objects.get(pk=int(rest))
        if "ask" in form.data:
            return _ask(request, schedule, of, to, stretch, form)
        return _give(request, group, schedule, of, to, stretch)
    except Rejected as rejected:
        show_rejection(form, rejected, _PLACES)
        return ""


def _give(request: SignedInRequest, group: Group, schedule: Schedule, of: User, to: User, stretch: ShiftRange) -> str:
    me = request.user
    takes = to == me and swaps.is_involved(schedule, me)
    if not (takes or of == me or may(request, Permission.TEAMS, group)):
        why = _("Only a manager hands over what is somebody else's. You can take it yourself, if you are in the group.")
        raise Rejected("forbidden", why, "user")
    swaps.give(schedule, stretch, of=of, to=to, actor=actor(request), now=request.now)
    return _("%(to)s is on call instead of %(of)s.") % {"to": to.display_name, "of": of.display_name}


def _ask(
    request: SignedInRequest, schedule: Schedule, of: User, to: User, stretch: ShiftRange, form: ReassignForm
) -> str:
    if of != request.user:
        raise Rejected("forbidden", _("Only your own shift can be offered."), "instead_of")
    back = form.taken_in_return()
    if back is not None and back[0] != to.pk:
        raise Rejected("invalid", _("That is not a shift of %(name)s.") % {"name": to.display_name}, "return_from")
    swaps.ask(
        schedule,
        stretch,
        asked_by=request.user,
        asked=to,
        in_return=back[1] if back else None,
        message=form.cleaned_data["message"],
        actor=actor(request),
        now=request.now,
    )
    return _("%(name)s is asked. Until they accept, the shift stays yours.") % {"name": to.display_name}


def _override(
    request: SignedInRequest,
    group: Group,
    schedule: Schedule,
    to: User,
    stretch: ShiftRange,
    shift: str | None,
    kind: str,
) -> str:
    if not may(request, Permission.TEAMS, group):
        if kind != "role" or to != request.user or not swaps.is_involved(schedule, to):
            why = _("It takes a manager of the group to put somebody else where nobody is.")
            raise Rejected("forbidden", why, "instead_of")
        swaps.fill(schedule, stretch, user=to, actor=actor(request), now=request.now)
        return _("%(name)s is on call then.") % {"name": to.display_name}
    spec = {
        "schedule": schedule.name,
        "user": to.username,
        "from": write_moment(stretch.starts_at),
        "to": write_moment(stretch.ends_at),
    }
    if shift:
        spec["shift"] = shift
    elif kind == "role":
        if stretch.role is None:
            raise Rejected("missing", _("Say which role."), "role")
        spec["role"] = str(stretch.role)
    overrides.save_override(spec, actor=actor(request), now=request.now)
    return _("%(name)s is on call then.") % {"name": to.display_name}
