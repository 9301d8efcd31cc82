"""Reassigning a period of on-call duty: take a shift, hand one over, ask for a swap, or override it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext, gettext_lazy
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.audit import AuditActor
from tocsin.access.roles import MemberRole, Permission
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import as_reason
from tocsin.core.validation.spec import write_moment
from tocsin.notify.text import signed_links
from tocsin.notify.text.signed_links import LinkSubject
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule, weekly_windows
from tocsin.oncall.calculation.final_schedule import GroupPlan, OnCall
from tocsin.oncall.changes import overrides
from tocsin.oncall.changes import swaps as commands
from tocsin.oncall.changes.overrides import shift_names
from tocsin.oncall.changes.swaps import ShiftRange
from tocsin.oncall.models import Schedule, SwapRequest, SwapState
from tocsin.people import permissions
from tocsin.people.models import Group, User
from tocsin.resources.registry import GROUPS, OVERRIDES
from tocsin.web.http.middleware import zone
from tocsin.web.http.request import (
    SignedInRequest,
    actor,
    address_of,
    find_object,
    find_row,
    may,
    moment_of,
    next_url,
    number_of,
    render_view,
    require,
)
from tocsin.web.oncall.shift_forms import day, role_name
from tocsin.web.ui.confirm_delete import FormSnapshot
from tocsin.web.ui.forms import ROLES, MomentField, active_users, rejections_shown, set_choices, user_zone


def requests_received(user: User, now: datetime) -> list[SwapRequest]:
    """Return the unexpired swap requests awaiting the user's answer, earliest first."""
    return list(_waiting(now).filter(requested_user=user))


def requests_sent(user: User, now: datetime) -> list[SwapRequest]:
    """Return the user's own unanswered swap requests, earliest first."""
    return list(_waiting(now).filter(requester=user))


@require_POST
def answer_swap(request: SignedInRequest, number: int, verb: str) -> HttpResponse:
    swap = find_row(commands.rows(), number, "swap")
    permitted_user, act, success_text = _verb(verb, swap)
    if permitted_user != request.user:
        raise PermissionDenied(_("Only %(name)s may do this.") % {"name": permitted_user.display_name})
    with rejections_shown(request):
        act(swap, actor=actor(request), now=request.now)
        messages.success(request, success_text)
    return redirect(next_url(request, "my_shifts"))


type _Act = Callable[..., SwapRequest]


def _verb(verb: str, swap: SwapRequest) -> tuple[User, _Act, str]:
    """Return who may run the verb, the command, and the success message. Raises Http404."""
    match verb:
        case "accept":
            return (
                swap.requested_user,
                commands.accept,
                _("Accepted: the shift is yours. %(name)s is notified.") % {"name": swap.requester.display_name},
            )
        case "decline":
            return (
                swap.requested_user,
                commands.decline,
                _("Declined. %(name)s is notified.") % {"name": swap.requester.display_name},
            )
        case "withdraw":
            return swap.requester, commands.withdraw, _("Request withdrawn.")
    raise Http404(_("A swap can be accepted, declined or withdrawn."))


def _waiting(now: datetime) -> QuerySet[SwapRequest]:
    return commands.rows().filter(state=SwapState.PENDING, ends_at__gt=now).order_by("starts_at")


# ---------- swap link
# The signed link in the mail of a swap request: accept or decline it without signing in.
#
# A GET never changes anything, so link scanners are harmless. A POST acts as the user for whom the link was signed,
# once: an answered request stays as it is.

_ANSWERS = {"accept": commands.accept, "decline": commands.decline}


@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def swap_link(request: HttpRequest, token: str) -> HttpResponse:
    """Render the request with both answers, or give the posted one."""
    now = moment_of(request)
    try:
        swap_id, user_id = signed_links.verify(token, now, LinkSubject.SWAP)
    except Rejected as rejected:
        return _invalid(request, rejected.reason.localized())
    swap = commands.rows().filter(pk=swap_id, requested_user_id=user_id, requested_user__is_active=True).first()
    if swap is None:
        return _invalid(request, _("The request or the user no longer exists."))
    with timezone.override(zone(swap.requested_user.time_zone)):
        if request.method == "POST":
            _answer(request, swap)
            return redirect("swap_link", token)
        context = {
            "swap": swap,
            "person": swap.requested_user,
            "is_waiting": swap.state == SwapState.PENDING and swap.ends_at > now,
            "is_declining": request.GET.get("answer") == "decline",
        }
        return render(request, "oncall/swap_link.html", context)


def _answer(request: HttpRequest, swap: SwapRequest) -> None:
    act = _ANSWERS.get(request.POST.get("answer", ""))
    if act is None:
        messages.warning(request, _("Choose one of the buttons."))
        return
    user = swap.requested_user
    try:
        actor = AuditActor.from_user(user, "email", address_of(request), limits=None)
        act(swap, actor=actor, now=moment_of(request))
    except Rejected as rejected:
        messages.warning(request, rejected.reason.localized())


def _invalid(request: HttpRequest, reason: str) -> HttpResponse:
    return render(request, "oncall/swap_link_expired.html", {"reason": reason}, status=410)


# ---------- overrides


class OverrideForm(forms.Form):
    begins = MomentField(label=gettext_lazy("From"))
    ends = MomentField(label=gettext_lazy("To"))
    user = forms.ModelChoiceField(active_users(), label=gettext_lazy("Covered by"), empty_label="–")
    instead_of = forms.ModelChoiceField(
        User.objects.order_by("name", "username"),
        label=gettext_lazy("Instead of"),
        required=False,
        empty_label=gettext_lazy("Anyone (also fills gaps)"),
    )
    role = forms.ChoiceField(
        label=gettext_lazy("Role"), choices=[("", gettext_lazy("All roles")), *ROLES], required=False
    )
    shift = forms.ChoiceField(label=gettext_lazy("Shift"), required=False)
    name = forms.CharField(label=gettext_lazy("Name"), max_length=100, required=False)

    def __init__(self, *args: Any, shifts: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_choices(self, "shift", [("", _("All shifts")), *((n, n) for n in shifts)])

    def spec(self, schedule: str) -> dict[str, Any]:
        data = self.cleaned_data
        spec: dict[str, Any] = {
            "schedule": schedule,
            "user": data["user"].username,
            "from": write_moment(data["begins"]),
            "to": write_moment(data["ends"]),
            "instead_of": data["instead_of"].username if data["instead_of"] else None,
        }
        return spec | {key: data[key] for key in ("role", "shift", "name") if data[key]}


@require_http_methods(["GET", "HEAD", "POST"])
def override(request: SignedInRequest, number: int) -> HttpResponse:
    """Render an override, with its form for users who may edit it."""
    row = find_object(OVERRIDES, number)
    group = row.schedule.group
    may_change = may(request, Permission.MANAGE_TEAMS, group)
    begin = {
        "begins": row.starts_at, "ends": row.ends_at, "user": row.user_id, "instead_of": row.instead_of_id,
        "role": row.role, "shift": row.shift, "name": row.name,
    }  # fmt: skip
    form = OverrideForm(request.POST or None, initial=begin, shifts=overrides.shift_names(row.schedule))
    snapshot = FormSnapshot.of(request, OVERRIDES, row)
    if request.method == "POST":
        require(request, Permission.MANAGE_TEAMS, group)
        if form.is_valid():
            with rejections_shown(form, {"from": "begins", "to": "ends"}), snapshot.unchanged():
                spec = form.spec(row.schedule.name)
                overrides.save_override(spec, existing=row, actor=actor(request), now=request.now)
                messages.success(request, _("Saved."))
                return redirect("group_schedule", group.pk)
    context = {
        "override": row,
        "snapshot": snapshot,
        "form": form,
        "may_change": may_change,
        "may_remove": may_change or commands.may_undo(row, request.user),
        "is_over": row.ends_at <= request.now,
        "zone": user_zone().key,
    }
    return render_view(request, "oncall/override.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: SignedInRequest, number: int) -> HttpResponse:
    """Ask for confirmation, then delete the override, after which the schedule applies again."""
    row = find_object(OVERRIDES, number)
    if not commands.may_undo(row, request.user):
        require(request, Permission.MANAGE_TEAMS, row.schedule.group)
    if request.method == "POST":
        overrides.delete_override(row, actor=actor(request), now=request.now)
        messages.success(request, _("Override deleted. The schedule applies again."))
        return redirect("group_schedule", row.schedule.group_id)
    context = {
        "object_name": row.name or _("this override"),
        "used_by": [],
        "back": ("override", row.pk),
        "consequences": _(
            "The schedule applies again for this period. If this is part of a swap, delete the other override too."
        ),
    }
    return render_view(request, "parts/delete.html", context)


# ---------- reassign shift
# Reassigns a period of on-call duty: take a shift, hand one over, ask for a swap, or add an override.
#
# One view covers all of these and shows who is on call in the period and why; the timeline opens it in a dialog.


#: Maximum number of colleagues' shifts offered in return.
MAX_RETURN_SHIFTS = 60


@dataclass(frozen=True, slots=True)
class ReassignChoices:
    """The options of the form; users as {id: display name}."""

    schedules: Sequence[Schedule]
    #: Users whose duty can be reassigned.
    holders: Mapping[int, str]
    team: Mapping[int, str]
    other_users: Mapping[int, str]
    #: Colleagues' shifts by option value.
    returns: Mapping[str, OnCall]
    is_manager: bool
    #: Whether the period is a coverage gap that the user may fill.
    is_gap: bool = False


def return_options(segments: Iterable[OnCall]) -> dict[str, OnCall]:
    """Return the shifts that can be taken in return by option value, earliest first."""
    bounded = sorted(
        (segment.since, segment.until, number, segment)
        for number, segment in enumerate(segments)
        if segment.since and segment.until
    )
    return {
        f"{segment.user_id}|{segment.role}|{since:%Y%m%dT%H%M}|{until:%Y%m%dT%H%M}": segment
        for since, until, _number, segment in bounded[:MAX_RETURN_SHIFTS]
    }


class ReassignForm(forms.Form):
    """A period, who is on call in it, and the replacement."""

    begins = MomentField(label=gettext_lazy("From"))
    ends = MomentField(label=gettext_lazy("To"))
    schedule = forms.ModelChoiceField(Schedule.objects.none(), label=gettext_lazy("Schedule"), empty_label=None)
    role = forms.ChoiceField(
        label=gettext_lazy("Role"), choices=[("", gettext_lazy("As scheduled")), *ROLES], required=False
    )
    instead_of = forms.ChoiceField(label=gettext_lazy("Instead of"))
    user = forms.TypedChoiceField(label=gettext_lazy("Covered by"), coerce=int)
    in_return = forms.ChoiceField(label=gettext_lazy("Shift in return"), required=False)
    message = forms.CharField(label=gettext_lazy("Your message"), max_length=500, required=False)

    #: Whether the user may take the period over, and whether it is the user's own.
    may_take_over = False
    #: Whether the period is a coverage gap.
    is_gap = False
    #: Whether there is anything to reassign.
    can_reassign = True
    is_own = False

    def __init__(self, *args: Any, choices: ReassignChoices, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._returns = choices.returns
        ids = [schedule.pk for schedule in choices.schedules]
        fields: dict[str, Any] = self.fields
        fields["schedule"].queryset = Schedule.objects.filter(pk__in=ids).select_related("group")
        if len(ids) == 1:
            fields["schedule"].widget = forms.HiddenInput()
        fields["instead_of"].choices = _holders(choices)
        team = sorted(choices.team.items(), key=lambda entry: entry[1].casefold())
        fields["user"].choices = [("", gettext("Select a person")), *team]
        if choices.other_users:
            fields["user"].choices.append((gettext("Other users"), list(choices.other_users.items())))
            fields["user"].choices = fields["user"].choices
        fields["in_return"].choices = [
            ("", gettext("None")),
            *((value, _segment_label(segment)) for value, segment in choices.returns.items()),
        ]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        begins, ends = data.get("begins"), data.get("ends")
        if begins and ends and ends <= begins:
            self.add_error("ends", gettext("The end must be after the start."))
        return data

    def return_shift(self) -> tuple[int, ShiftRange] | None:
        """Return the user and period of the shift taken in return, or None."""
        segment = self._returns.get(self.cleaned_data["in_return"])
        if segment is None or segment.since is None or segment.until is None:
            return None
        return segment.user_id, ShiftRange(segment.since, segment.until, MemberRole(segment.role))


def _holders(choices: ReassignChoices) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [(f"user-{number}", name) for number, name in choices.holders.items()]
    if choices.is_manager:
        shifts = list(dict.fromkeys(name for schedule in choices.schedules for name in shift_names(schedule)))
        options += [
            ("role", gettext("Anyone in this role (also fills gaps)")),
            *((f"shift-{name}", gettext("Anyone in shift %(name)s") % {"name": name}) for name in shifts),
            ("schedule", gettext("Everyone on the schedule")),
        ]
    elif choices.is_gap:
        options.append(("role", gettext("No one (coverage gap)")))
    return options


def _segment_label(segment: OnCall) -> str:
    assert segment.since is not None
    assert segment.until is not None
    begin, end = timezone.localtime(segment.since), timezone.localtime(segment.until)
    span = f"{day(begin)} {begin:%H:%M} – {day(end)} {end:%H:%M}"
    return f"{segment.name}, {role_name(segment.role)}: {span}"


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
    user_id = number_of(query.get("user"))
    by_name = {schedule.name: schedule for schedule in schedules}
    schedule = by_name.get(query.get("schedule", ""))
    if since is None and until is None:
        current = next(iter(final_schedule.on_call(plan, request.now)), None)
        if current is not None:
            role, user_id, until = role or current.role, user_id or current.user_id, current.until
            schedule = schedule or by_name.get(current.schedule)
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
    is_involved = any(commands.is_involved(schedule, me) for schedule in schedules)
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
        other_users=(
            {user.pk: user.display_name for user in active_users().exclude(pk__in=everybody)} if is_manager else {}
        ),
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
    # The past cannot be changed, so the pickers offer no earlier day.
    for name in ("begins", "ends"):
        form.fields[name].widget.attrs["min"] = f"{timezone.localtime(request.now):%Y-%m-%d}T00:00"
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


def _reassign_posted(request: SignedInRequest, group: Group, form: ReassignForm) -> str:
    """Reassign the period as posted. Return a sentence about the result, or "" if the form has errors."""
    data = form.cleaned_data
    schedule: Schedule = data["schedule"]
    to_user = User.objects.get(pk=data["user"])
    shift_range = ShiftRange(data["begins"], data["ends"], MemberRole(data["role"]) if data["role"] else None)
    kind, _sign, target = data["instead_of"].partition("-")
    with rejections_shown(form, _PLACES):
        if kind != "user":
            return _override(request, group, schedule, to_user, shift_range, target if kind == "shift" else None, kind)
        from_user = User.objects.get(pk=int(target))
        if "ask" in form.data:
            return _request_swap(request, schedule, from_user, to_user, shift_range, form)
        return _reassign_directly(request, group, schedule, from_user, to_user, shift_range)
    return ""


def _reassign_directly(
    request: SignedInRequest, group: Group, schedule: Schedule, from_user: User, to_user: User, shift_range: ShiftRange
) -> str:
    me = request.user
    is_taking_over = to_user == me and commands.is_involved(schedule, me)
    if not (is_taking_over or from_user == me or may(request, Permission.MANAGE_TEAMS, group)):
        detail = gettext(
            "Only group managers can reassign someone else's shift. Group members can take over the shift."
        )
        raise Rejected("forbidden", as_reason(detail), "user")
    commands.transfer_shift(
        schedule, shift_range, current_user=from_user, new_user=to_user, actor=actor(request), now=request.now
    )
    return gettext("%(to)s is on call instead of %(of)s.") % {"to": to_user.display_name, "of": from_user.display_name}


def _request_swap(
    request: SignedInRequest,
    schedule: Schedule,
    from_user: User,
    to_user: User,
    shift_range: ShiftRange,
    form: ReassignForm,
) -> str:
    if from_user != request.user:
        raise Rejected("forbidden", as_reason(gettext("Only your own shift can be offered.")), "instead_of")
    return_shift = form.return_shift()
    if return_shift is not None and return_shift[0] != to_user.pk:
        raise Rejected(
            "invalid",
            as_reason(gettext("This shift does not belong to %(name)s.") % {"name": to_user.display_name}),
            "return_from",
        )
    commands.request_swap(
        schedule,
        shift_range,
        requester=request.user,
        requested_user=to_user,
        in_return=return_shift[1] if return_shift else None,
        message=form.cleaned_data["message"],
        actor=actor(request),
        now=request.now,
    )
    return gettext("Request sent to %(name)s. The shift stays yours until they accept.") % {
        "name": to_user.display_name
    }


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
        if kind != "role" or to_user != request.user or not commands.is_involved(schedule, to_user):
            detail = gettext("Only group managers can assign someone else to a coverage gap.")
            raise Rejected("forbidden", as_reason(detail), "instead_of")
        commands.fill_gap(schedule, shift_range, user=to_user, actor=actor(request), now=request.now)
        return gettext("%(name)s is on call for this period.") % {"name": to_user.display_name}
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
            raise Rejected("missing", as_reason(gettext("Select a role.")), "role")
        spec["role"] = str(shift_range.role)
    overrides.save_override(spec, actor=actor(request), now=request.now)
    return gettext("%(name)s is on call for this period.") % {"name": to_user.display_name}
