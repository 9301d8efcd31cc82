"""Who is on call changes: shifts taken, handed over and swapped, overrides, absences, reminders and support hours."""

from __future__ import annotations

from datetime import timedelta

from tests.store.people import ACTOR
from tests.walk import people
from tests.walk.world import World
from tocsin.access.audit import AuditActor
from tocsin.core.db import database
from tocsin.oncall import loader
from tocsin.oncall.changes import commands, overrides, swaps
from tocsin.oncall.changes.swaps import ShiftRange
from tocsin.oncall.models import Override, Schedule, SupportHours, SwapRequest
from tocsin.people.changes import out_of_office, reminder_rules
from tocsin.people.member_roles import MemberRole
from tocsin.people.models import OutOfOffice, User

#: What routes, steps and workflows may be about.
HOURS = ("Office", "Nights")


def settle_in(world: World) -> None:
    """The support hours of the beginning, and reminders for some."""
    for name in HOURS:
        save_hours(world, name)
    for name in people.NAMES:
        if world.rng.random() < 0.3:
            remind(world, name)


def save_hours(world: World, name: str) -> None:
    """Makes the support hours, or changes them."""
    first, last = sorted(world.rng.sample(range(24), 2))
    window = {"days": ["mon", "tue", "wed"], "from": f"{first:02}:00", "to": f"{last:02}:30"}
    world.say(f"support hours {name}: {window}")
    existing = SupportHours.objects.filter(name=name).first()
    commands.save_support_hours(
        {"name": name, "time_zone": "UTC", "windows": [window]}, existing=existing, actor=ACTOR, now=world.now
    )


def change_hours(world: World) -> None:
    """Support hours change, or go."""
    name = world.rng.choice(HOURS)
    existing = SupportHours.objects.filter(name=name).first()
    if existing is not None and world.rng.random() < 0.3:
        world.say(f"support hours {name} are deleted")
        commands.delete_support_hours(existing, actor=ACTOR, now=world.now)
    else:
        save_hours(world, name)


def remind(world: World, name: str) -> None:
    """Somebody is reminded of their shifts, by one of their ways or by mail."""
    user = User.objects.get(username=name)
    label = world.rng.choice(["", *user.contact_methods.values_list("label", flat=True)])
    wanted = [{"before": world.rng.choice(["15m", "1h", "1d"]), **({"by": label} if label else {})}]
    world.say(f"{name} is reminded {wanted}")
    reminder_rules.replace_all(user, wanted, actor=ACTOR, now=world.now)


def change_reminders(world: World) -> None:
    remind(world, world.rng.choice(people.NAMES))


def hand_over(world: World) -> None:
    """Somebody's shift is taken by another, for a while or a role of it."""
    if (found := _two_of_a_shift(world)) is None:
        return
    schedule, gives, takes, stretch = found
    world.say(f"{takes.username} takes {stretch} of {schedule.name} from {gives.username}")
    swaps.give(schedule, stretch, of=gives, to=takes, actor=_by(takes), now=world.now)


def ask_to_swap(world: World) -> None:
    """Somebody asks another to take their shift, perhaps for one in return."""
    if (found := _two_of_a_shift(world)) is None:
        return
    schedule, asks, asked, stretch = found
    back = None
    if world.rng.random() < 0.4:
        begins = world.now + timedelta(hours=world.rng.randint(1, 30))
        back = ShiftRange(begins, begins + timedelta(hours=8))
    world.say(f"{asks.username} asks {asked.username} to take {stretch} of {schedule.name}, for {back}")
    swaps.ask(schedule, stretch, asked_by=asks, asked=asked, in_return=back, message="", actor=_by(asks), now=world.now)


def answer_swap(world: World) -> None:
    """A swap that was asked for is accepted, declined or taken back."""
    swap = SwapRequest.objects.select_related("schedule__group", "asked_by", "asked").order_by("-id").first()
    if swap is not None:
        act = world.rng.choice([swaps.accept, swaps.accept, swaps.decline, swaps.withdraw])
        world.say(f"the swap {swap.pk} ({swap.state}): {act.__name__}")
        act(swap, actor=_by(swap.asked), now=world.now)


def take_back(world: World) -> None:
    """An override or an absence goes."""
    if world.rng.random() < 0.5 and (override := Override.objects.order_by("-id").first()) is not None:
        world.say(f"the override {override} goes")
        overrides.delete_override(override, actor=ACTOR, now=world.now)
    elif (absence := OutOfOffice.objects.select_related("user").order_by("-id").first()) is not None:
        world.say(f"the absence of {absence.user} goes")
        out_of_office.delete_absence(absence, actor=ACTOR, now=world.now)


def save_or_drop_schedule(world: World) -> None:
    """A group gets a schedule, another one, or none."""
    group = world.rng.choice(people.GROUPS)
    existing = Schedule.objects.filter(name=f"{group} shifts").first()
    if existing is not None and world.rng.random() < 0.3:
        world.say(f"the schedule of {group} is deleted")
        commands.delete_schedule(existing, actor=ACTOR, now=world.now)
    else:
        people.save_schedule(world, group)


def _two_of_a_shift(world: World) -> tuple[Schedule, User, User, ShiftRange] | None:
    """A schedule, who is on call in it, somebody else, and a stretch from about now on."""
    schedules = list(Schedule.objects.select_related("group").order_by("name"))
    if not schedules:
        return None
    schedule = world.rng.choice(schedules)
    with database.transaction() as connection:
        now_on = loader.on_call(connection, [schedule.group_id], world.now)[schedule.group_id]
    if not now_on:
        return None
    gives = User.objects.get(pk=world.rng.choice(now_on).user_id)
    takes = User.objects.get(username=world.rng.choice(people.active(world)))
    begins = world.now + timedelta(hours=world.rng.choice([0, 0, 1, 6]))
    role = world.rng.choice([None, None, MemberRole.PRIMARY])
    return schedule, gives, takes, ShiftRange(begins, begins + timedelta(hours=world.rng.choice([1, 8])), role)


def _by(user: User) -> AuditActor:
    return AuditActor.of(user, "web")
