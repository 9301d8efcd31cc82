"""Hypothesis strategies for schedules, and small schedules written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from tocsin.access.roles import MemberRole
from tocsin.oncall.calculation import schedules
from tocsin.oncall.calculation.final_schedule import Absence, GroupPlan, SnapshotMember, SnapshotUser
from tocsin.oncall.calculation.schedules import CompiledOverride, CompiledSchedule, ImportedShifts
from tocsin.oncall.calculation.weekly_windows import CustomHoliday, HolidayDays

ALICE, BOB, CAROL, DAVE = 1, 2, 3, 4
NAMES = {ALICE: "Alice", BOB: "Bob", CAROL: "Carol", DAVE: "Dave"}
PRIMARY, SECONDARY, LEAD = MemberRole
#: Europe's and America's summer time, half an hour, a quarter past, a day that was skipped, and clocks that change at
#: midnight.
ZONES = (
    "UTC",
    "Europe/Zurich",
    "America/Chicago",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Beirut",
)


def local(text: str, zone: str = "Europe/Zurich", fold: int = 0) -> datetime:
    """The moment in UTC of a local time."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


def schedule(*shifts: Mapping[str, object], zone: str = "Europe/Zurich", **rest: object) -> CompiledSchedule:
    """A schedule named Desk 24x7 from its stored form."""
    return schedules.load("Desk 24x7", zone, {"shifts": list(shifts)}, **rest)  # type: ignore[arg-type]


def rotate(name: str, users: list[int], **rest: object) -> dict[str, object]:
    """A weekly rotation from Monday 5 January 2026 at 09:00."""
    outer = {key: rest.pop(key) for key in ("layer", "holidays", "start", "end", "time_zone") if key in rest}
    inner = {"every": "1w", "at": "09:00", "on": "monday", "users": users, "roles": ["primary"], **rest}
    if not str(inner["every"]).endswith(("w", "s", "h")) or inner["on"] is None:
        del inner["on"]
    return {"name": name, "rotate": inner, "start": "2026-01-05", **outer}


def fixed(name: str, users: list[int], *windows: tuple[object, ...], **rest: object) -> dict[str, object]:
    """A fixed shift of windows (days, from, to), or (from, to) over several days."""
    outer = {key: rest.pop(key) for key in ("layer", "holidays", "start", "end", "time_zone") if key in rest}
    written = [{"days": w[0], "from": w[1], "to": w[2]} if len(w) == 3 else {"from": w[0], "to": w[1]} for w in windows]
    inner = {"windows": written, "users": users, "roles": ["primary"], **rest}
    return {"name": name, "fixed": inner, **outer}


def plan(
    *planned: CompiledSchedule,
    members: tuple[SnapshotMember, ...] = (),
    absences: tuple[Absence, ...] = (),
    gone: int = 0,
) -> GroupPlan:
    """A group named Desk; `gone` is disabled."""
    return GroupPlan(
        7, "Desk", members, planned, {user: SnapshotUser(name, user != gone) for user, name in NAMES.items()}, absences
    )


MINUTES = st.integers(0, 24 * 60 - 1)
USERS = st.lists(st.sampled_from(sorted(NAMES)), min_size=1, max_size=4, unique=True)
ROLES = st.lists(st.sampled_from(["primary", "secondary", "lead"]), min_size=1, max_size=2, unique=True) | st.just(
    ["own"]
)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@st.composite
def some_windows(draw: st.DrawFn) -> list[dict[str, object]]:
    results: list[dict[str, object]] = []
    for _ in range(draw(st.integers(1, 2))):
        start, end = draw(MINUTES), draw(MINUTES)
        if draw(st.booleans()):
            first, last = draw(st.sampled_from(DAYS)), draw(st.sampled_from(DAYS))
            results.append({"from": f"{first} {_clock(start)}", "to": f"{last} {_clock(end)}"})
        else:
            days = draw(st.lists(st.sampled_from(DAYS), min_size=1, unique=True))
            results.append({"days": days, "from": _clock(start), "to": _clock(end if end != start else 24 * 60)})
    return results


@st.composite
def some_shift(draw: st.DrawFn, number: int, around: date) -> dict[str, object]:
    start = around + timedelta(days=draw(st.integers(-40, 10)))
    shift: dict[str, object] = {"name": f"Shift {number}", "layer": draw(st.integers(1, 2)), "start": start.isoformat()}
    if draw(st.integers(0, 3)) == 0:
        shift["end"] = (start + timedelta(days=draw(st.integers(0, 60)))).isoformat()
    shift["holidays"] = draw(st.sampled_from(["run", "run", "skip", "only"]))
    if draw(st.booleans()):
        shift["time_zone"] = draw(st.sampled_from(ZONES))
    users, roles = draw(USERS), draw(ROLES)
    if draw(st.booleans()):
        every = draw(st.sampled_from(["3h", "8h", "12h", "1d", "25h", "2d", "1w", "1 month", "2 months"]))
        attempt: dict[str, object] = {"every": every, "at": _clock(draw(MINUTES)), "users": users, "roles": roles}
        attempt["move"] = draw(st.integers(1, 3))
        if "month" in every:
            attempt["on"] = draw(st.integers(1, 31) | st.sampled_from(["monday", "friday"]))
        if draw(st.booleans()):
            attempt["windows"] = draw(some_windows())
        shift["rotate"] = attempt
    elif draw(st.booleans()):
        weeks = draw(st.integers(1, 3))
        shift["fixed"] = {"windows": draw(some_windows()), "users": users, "roles": roles, "every": f"{weeks}w"}
    else:
        begin = datetime(start.year, start.month, start.day) + timedelta(minutes=draw(MINUTES))
        end = begin + timedelta(minutes=draw(st.integers(1, 9000)))
        span = {"from": begin.isoformat()[:16], "to": end.isoformat()[:16], "users": users, "roles": roles}
        shift["fixed"] = span | ({"every": "1w"} if draw(st.booleans()) else {})
    return shift


@st.composite
def some_plan(draw: st.DrawFn, around: date) -> GroupPlan:
    """A group with up to two schedules, overrides and absences, all near `around`."""
    noon = datetime(around.year, around.month, around.day, 12, tzinfo=UTC)

    def moment() -> datetime:
        return noon + timedelta(minutes=draw(st.integers(-20 * 1440, 20 * 1440)))

    planned = []
    day = around + timedelta(days=draw(st.integers(-5, 5)))
    calendars = [
        HolidayDays("Own", custom_days=(CustomHoliday(day.month, day.day, "A day"), CustomHoliday(12, 25, "Christmas")))
    ]
    for number in range(draw(st.integers(0, 2))):
        stored = [draw(some_shift(n, around)) for n in range(draw(st.integers(1, 3)))]
        overrides = []
        for made in range(draw(st.integers(0, 3))):
            begin = moment()
            overrides.append(
                CompiledOverride(
                    id=10 * number + made,
                    name=draw(st.sampled_from(["", "Swap"])),
                    user_id=draw(st.sampled_from(sorted(NAMES))),
                    starts_at=begin,
                    ends_at=begin + timedelta(minutes=draw(st.integers(1, 8000))),
                    shift=draw(st.sampled_from(["", "Shift 0", "Shift 1"])),
                    role=draw(st.sampled_from([None, *MemberRole])),
                    instead_of=draw(st.sampled_from([None, ALICE, BOB])),
                )
            )
        planned.append(
            schedules.load(
                f"S{number}",
                draw(st.sampled_from(ZONES)),
                {"shifts": stored},
                calendars=calendars,
                overrides=overrides,
                imported={"Shift 0": ImportedShifts()},
            )
        )
    members = tuple(
        SnapshotMember(
            user, NAMES[user], frozenset(draw(st.lists(st.sampled_from(list(MemberRole)), max_size=2))), user
        )
        for user in draw(st.lists(st.sampled_from(sorted(NAMES)), unique=True, max_size=3))
    )
    absences = []
    for user in draw(st.lists(st.sampled_from(sorted(NAMES)), unique=True, max_size=2)):
        begin = moment()
        cover = draw(st.sampled_from([None, *sorted(NAMES)]))
        covers = {7: draw(st.sampled_from(sorted(NAMES)))} if draw(st.booleans()) else {}
        absences.append(Absence(user, begin, begin + timedelta(minutes=draw(st.integers(1, 9000))), cover, covers))
    return plan(*planned, members=members, absences=tuple(absences), gone=draw(st.sampled_from([0, 0, DAVE])))
