"""Support hours: whether an instant is within them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from tocsin.oncall import windows
from tocsin.oncall.windows import Window


@dataclass(frozen=True, slots=True)
class SupportHours:
    """A named set of weekly windows in its time zone."""

    name: str
    zone: ZoneInfo
    windows: tuple[Window, ...]

    def is_open(self, now: datetime) -> bool:
        """Whether `now` is within them."""
        return is_open(self.windows, self.zone, now)


def is_open(among: Iterable[Window], zone: ZoneInfo, now: datetime) -> bool:
    """Whether any of the windows, in local time of `zone`, is open at `now`; its end is no longer in it."""
    return windows.current(among, zone, now) is not None
