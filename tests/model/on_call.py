"""Changes of on-call configuration: reassigned and swapped shifts, overrides, absences, reminders, support hours."""

from __future__ import annotations

from datetime import timedelta

from tests.model import people
from tests.model.system import System
from tests.support.people import ACTOR
from tocsin.access.audit import AuditActor
from tocsin.access.roles import MemberRole
from tocsin.core.db import database
from tocsin.oncall import loader
from tocsin.oncall.changes import commands, overrides, swaps
from tocsin.oncall.changes.swaps import ShiftRange
from tocsin.oncall.models import Override, Schedule, SupportHours, SwapRequest
from tocsin.people.changes import out_of_office, users
from tocsin.people.models import OutOfOffice, User
from tocsin.resources import registry

#: The support hours that routes, steps and workflows refer to.
HOURS = ("Office", "Nights")


def set_up(system: System) -> None:
    """Creates the initial support hours, and reminders for some users."""
    for name in HOURS:
        save_hours(system, name)
    for name in people.NAMES:
        if system.rng.random() < 0.3:
            remind(system, name)


def save_hours(system: System, name: str) -> None:
    """Creates or changes the support hours."""
    first, last = sorted(system.rng.sample(range(24), 2))
    window = {"days": ["mon", "tue", "wed"], "from": f"{first:02}:00", "to": f"{last:02}:30"}
    system.record(f"support hours {name}: {window}")
    existing = SupportHours.objects.filter(name=name).first()
    commands.save_support_hours(
        {"name": name, "time_zone": "UTC", "windows": [window]}, existing=existing, actor=ACTOR, now=system.now
    )


def change_hours(system: System) -> None:
    """Changes or deletes support hours."""
    name = system.rng.choice(HOURS)
    existing = SupportHours.objects.filter(name=name).first()
    if existing is not None and system.rng.random() < 0.3:
        system.record(f"support hours {name} are deleted")
        registry.SUPPORT_HOURS.delete(existing, actor=ACTOR, now=system.now)
    else:
        save_hours(system, name)


def remind(system: System, name: str) -> None:
    """Sets a user's shift reminder, by one of their contact methods or by mail."""
    user = User.objects.get(username=name)
    label = system.rng.choice(["", *user.contact_methods.values_list("label", flat=True)])
    expected = [{"before": system.rng.choice(["15m", "1h", "1d"]), **({"by": label} if label else {})}]
    system.record(f"{name} is reminded {expected}")
    users.replace_all(user, expected, actor=ACTOR, now=system.now)


def change_reminders(system: System) -> None:
    remind(system, system.rng.choice(people.NAMES))


def hand_over(system: System) -> None:
    """A user takes over another's shift, for a range or a role of it."""
    if (found := _two_of_a_shift(system)) is None:
        return
    schedule, gives, takes, stretch = found
    system.record(f"{takes.username} takes {stretch} of {schedule.name} from {gives.username}")
    swaps.transfer_shift(schedule, stretch, current_user=gives, new_user=takes, actor=_by(takes), now=system.now)


def ask_to_swap(system: System) -> None:
    """A user requests a swap, sometimes with a shift in return."""
    if (found := _two_of_a_shift(system)) is None:
        return
    schedule, asks, user, stretch = found
    back = None
    if system.rng.random() < 0.4:
        begins = system.now + timedelta(hours=system.rng.randint(1, 30))
        back = ShiftRange(begins, begins + timedelta(hours=8))
    system.record(f"{asks.username} asks {user.username} to take {stretch} of {schedule.name}, for {back}")
    swaps.request_swap(
        schedule,
        stretch,
        requester=asks,
        requested_user=user,
        in_return=back,
        message="",
        actor=_by(asks),
        now=system.now,
    )


def answer_swap(system: System) -> None:
    """Accepts, declines or withdraws a requested swap."""
    swap = SwapRequest.objects.select_related("schedule__group", "requester", "requested_user").order_by("-id").first()
    if swap is not None:
        act = system.rng.choice([swaps.accept, swaps.accept, swaps.decline, swaps.withdraw])
        system.record(f"the swap {swap.pk} ({swap.state}): {act.__name__}")
        act(swap, actor=_by(swap.requested_user), now=system.now)


def take_back(system: System) -> None:
    """Deletes an override or an absence."""
    if system.rng.random() < 0.5 and (override := Override.objects.order_by("-id").first()) is not None:
        system.record(f"the override {override} goes")
        overrides.delete_override(override, actor=ACTOR, now=system.now)
    elif (absence := OutOfOffice.objects.select_related("user").order_by("-id").first()) is not None:
        system.record(f"the absence of {absence.user} goes")
        out_of_office.delete_absence(absence, actor=ACTOR, now=system.now)


def save_or_drop_schedule(system: System) -> None:
    """Saves or deletes the schedule of a group."""
    group = system.rng.choice(people.GROUPS)
    existing = Schedule.objects.filter(name=f"{group} shifts").first()
    if existing is not None and system.rng.random() < 0.3:
        system.record(f"the schedule of {group} is deleted")
        registry.SCHEDULES.delete(existing, actor=ACTOR, now=system.now)
    else:
        people.save_schedule(system, group)


def _two_of_a_shift(system: System) -> tuple[Schedule, User, User, ShiftRange] | None:
    """A schedule, its on-call user, another user, and a range that starts soon."""
    schedules = list(Schedule.objects.select_related("group").order_by("name"))
    if not schedules:
        return None
    schedule = system.rng.choice(schedules)
    with database.transaction() as connection:
        now_on = loader.on_call(connection, [schedule.group_id], system.now)[schedule.group_id]
    if not now_on:
        return None
    gives = User.objects.get(pk=system.rng.choice(now_on).user_id)
    takes = User.objects.get(username=system.rng.choice(people.active(system)))
    begins = system.now + timedelta(hours=system.rng.choice([0, 0, 1, 6]))
    role = system.rng.choice([None, None, MemberRole.PRIMARY])
    return schedule, gives, takes, ShiftRange(begins, begins + timedelta(hours=system.rng.choice([1, 8])), role)


def _by(user: User) -> AuditActor:
    return AuditActor.from_user(user, "web", limits=None)
