"""The form that reassigns a period of on-call duty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from tocsin.oncall.calculation.final_schedule import OnCall
from tocsin.oncall.changes.overrides import shift_names
from tocsin.oncall.changes.swaps import ShiftRange
from tocsin.oncall.models import Schedule
from tocsin.people.member_roles import MemberRole
from tocsin.web.oncall.schedules.describe_shift import day, role_name
from tocsin.web.ui.choices import ROLES
from tocsin.web.ui.forms import MomentField

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


def _segment_key(segment: OnCall, since: datetime, until: datetime) -> str:
    return f"{segment.user_id}|{segment.role}|{since:%Y%m%dT%H%M}|{until:%Y%m%dT%H%M}"


def return_options(segments: Iterable[OnCall]) -> dict[str, OnCall]:
    """Return the shifts that can be taken in return by option value, earliest first."""
    all_segments = list(segments)
    bounded = sorted(
        (segment.since, segment.until, number)
        for number, segment in enumerate(all_segments)
        if segment.since and segment.until
    )
    return {
        _segment_key(all_segments[number], since, until): all_segments[number]
        for since, until, number in bounded[:MAX_RETURN_SHIFTS]
    }


class ReassignForm(forms.Form):
    """A period, who is on call in it, and the replacement."""

    begins = MomentField(label=_("From"))
    ends = MomentField(label=_("To"))
    schedule = forms.ModelChoiceField(Schedule.objects.none(), label=_("Schedule"), empty_label=None)
    role = forms.ChoiceField(label=_("Role"), choices=[("", _("As scheduled")), *ROLES], required=False)
    instead_of = forms.ChoiceField(label=_("Instead of"))
    user = forms.TypedChoiceField(label=_("Covered by"), coerce=int)
    in_return = forms.ChoiceField(label=_("Shift in return"), required=False)
    message = forms.CharField(label=_("Your message"), max_length=500, required=False)

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
