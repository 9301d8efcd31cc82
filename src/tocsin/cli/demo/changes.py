"""What people of the sample team changed in the three weeks before the demo began."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from tocsin.access.audit import AuditActor
from tocsin.cli.demo.incidents import ZONE, local
from tocsin.core.db import database
from tocsin.core.validation.spec_types import write_moment
from tocsin.escalation.changes import commands as policies
from tocsin.escalation.models import Policy
from tocsin.inbound.maintenance import commands as maintenance
from tocsin.oncall import loader
from tocsin.oncall.changes import overrides, swaps
from tocsin.oncall.changes.swaps import ShiftRange
from tocsin.oncall.models import Schedule
from tocsin.people.changes import out_of_office
from tocsin.people.models import User

type Change = Callable[[datetime], object]


def changes(now: datetime) -> Iterator[tuple[datetime, Change]]:
    """Each with its time, in any order."""
    yield local(now, 16, "16:24"), _repeat_oftener
    yield local(now, 15, "09:10"), lambda at: _swap(at, now, 14, "My daughter's concert", is_accepted=True)
    yield local(now, 8, "11:47"), lambda at: _dentist(at, now)
    yield local(now, 6, "14:05"), lambda at: _firmware(at, now)
    yield local(now, 4, "10:31"), lambda at: _absence(at, now)
    yield local(now, 1, "13:02"), lambda at: _swap(at, now, -6, "Theatre tickets", is_accepted=False)


def _repeat_oftener(at: datetime) -> None:
    policy = Policy.objects.get(name="Standard")
    spec = {**policies.policy_spec(policy), "repeat": {"times": 3, "every": "10m"}}
    policies.save_policy(spec, existing=policy, actor=_by("dana"), now=at)


def _swap(at: datetime, now: datetime, days_ago: int, message: str, *, is_accepted: bool) -> None:
    """An evening of the network team goes to the one who is not on call, or is to."""
    schedule = Schedule.objects.select_related("group").get(name="Network 24x7")
    evening = ShiftRange(local(now, days_ago, "17:00"), local(now, days_ago, "23:00"))
    with database.transaction() as connection:
        on_call = loader.on_call(connection, [schedule.group_id], evening.starts_at)[schedule.group_id]
    requester = User.objects.get(pk=on_call[0].user_id)
    team = User.objects.filter(username__in=("chen", "emma", "finn"))
    requested = team.exclude(pk__in=[one.user_id for one in on_call]).get()
    swap = swaps.request_swap(
        schedule, evening, requester=requester, requested_user=requested, in_return=None, message=message,
        actor=_by(requester.username), now=at,
    )  # fmt: skip
    if is_accepted:
        swaps.accept(swap, actor=_by(requested.username), now=at + timedelta(minutes=26))


def _dentist(at: datetime, now: datetime) -> None:
    spec = {
        "schedule": "Service Desk 24x7", "name": "Dentist", "user": "dana", "role": "primary",
        "from": write_moment(local(now, 7, "13:00")), "to": write_moment(local(now, 7, "17:00")),
    }  # fmt: skip
    overrides.save_override(spec, actor=_by("dana"), now=at)


def _firmware(at: datetime, now: datetime) -> None:
    spec: dict[str, Any] = {
        "name": "Firmware of the core switches", "group": "Network", "integrations": ["Prometheus"],
        "time_zone": ZONE.key,
        "starts": f"{local(now, 5, '21:00').astimezone(ZONE):%Y-%m-%d %H:%M}",
        "ends": f"{local(now, 5, '23:30').astimezone(ZONE):%Y-%m-%d %H:%M}",
    }  # fmt: skip
    maintenance.save_window(spec, actor=_by("chen"), now=at)


def _absence(at: datetime, now: datetime) -> None:
    spec = {
        "from": write_moment(local(now, -12, "08:00")), "to": write_moment(local(now, -19, "18:00")),
        "cover": "dana", "note": "Holidays",
    }  # fmt: skip
    out_of_office.save_absence(User.objects.get(username="emma"), spec, actor=_by("emma"), now=at)


def _by(username: str) -> AuditActor:
    return AuditActor.from_user(User.objects.get(username=username), "web", limits=None)
