"""What happened in the three weeks before the demo began: messages, answers of people, and changes of schedules. Pure.

The same moment gives the same history.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.alerts.states import CommandChannel, CommandKind

#: The sample team's time zone.
ZONE = ZoneInfo("Europe/Zurich")

#: How many days the history covers.
DAYS = 21

_HALO, _PROMETHEUS, _WEBSITES = "HaloITSM", "Prometheus", "Website checks"
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Answer:
    """A command of a user, `after` minutes from the opening. Without a user it comes from the person paged last."""

    after: float
    command: CommandKind
    user: str = ""
    note: str = ""
    via: CommandChannel = CommandChannel.SMS
    #: For a snooze.
    hours: int = 0


@dataclass(frozen=True, slots=True)
class Incident:
    """A message to an integration, the answers to its alert, and the message that ends it, if any."""

    at: datetime
    integration: str
    body: bytes
    answers: Sequence[Answer] = ()
    #: Minutes from the opening, and the body.
    end: tuple[float, bytes] | None = None

    def is_over_by(self, moment: datetime) -> bool:
        """Whether all of it happened before that moment."""
        last = max((answer.after for answer in self.answers), default=0.0)
        return self.at + max(last, self.end[0] if self.end else 0.0) * _MINUTE < moment


@dataclass(slots=True)
class _Source:
    """Builds the messages of the senders. Numbers of tickets count upwards, below those of the small Halo."""

    random: random.Random
    ticket: int = field(default=20_100)

    def halo(self, at: datetime, summary: str, client: str, priority: str, *, ends_after: float | None = None,
             answers: Sequence[Answer] = (), **more: Any) -> Incident:  # fmt: skip
        self.ticket += self.random.randrange(2, 9)
        sla = timedelta(minutes={"Critical": 5, "High": 10}.get(priority, 120))
        ticket = {
            "id": self.ticket,
            "summary": summary,
            "client_name": client,
            "priority": {"name": priority},
            "tickettype": {"name": "Incident"},
            "respondbydate": _halo_date(at + sla),
            "fixbydate": _halo_date(at + 8 * sla),
            **more,
        }

        def body(event: str, status: str) -> bytes:
            message = {"event": event, "object_id": self.ticket, "ticket": {**ticket, "status": {"name": status}}}
            return json.dumps(message, ensure_ascii=False).encode()

        end = None if ends_after is None else (ends_after, body("ticket status changed", "Closed"))
        return Incident(at, _HALO, body("new ticket logged", "New"), answers, end)

    def prometheus(self, at: datetime, name: str, severity: str, client: str, *problems: tuple[str, str],
                   ends_after: float | None = None, answers: Sequence[Answer] = ()) -> Incident:  # fmt: skip
        """A group of alerts: for each problem the instance, and what is wrong with it."""
        alerts: list[dict[str, Any]] = [
            {
                "labels": {"alertname": name, "instance": instance, "severity": severity, "client": client},
                "annotations": {"summary": summary, "description": f"{summary} for two minutes."},
                "startsAt": f"{at:%Y-%m-%dT%H:%M:%SZ}",
                "fingerprint": f"{self.random.getrandbits(64):016x}",
            }
            for instance, summary in problems
        ]

        def body(status: str, **ending: str) -> bytes:
            group = [{**alert, "status": status, **ending} for alert in alerts]
            message = {"receiver": "tocsin", "status": status, "version": "4", "alerts": group}
            return json.dumps(message, ensure_ascii=False).encode()

        end = None
        if ends_after is not None:
            end = (ends_after, body("resolved", endsAt=f"{at + ends_after * _MINUTE:%Y-%m-%dT%H:%M:%SZ}"))
        return Incident(at, _PROMETHEUS, body("firing"), answers, end)

    def website(self, at: datetime, monitor: tuple[int, str, str], cause: str, severity: str, *,
                is_down: bool = True, ends_after: float | None = None,
                answers: Sequence[Answer] = ()) -> Incident:  # fmt: skip
        number, name, url = monitor
        tags = [{"name": "severity", "value": severity}]

        def body(status: int | None, moment: datetime, text: str) -> bytes:
            time_text = f"{moment:%Y-%m-%d %H:%M:%S}"
            heartbeat = {"monitorID": number, "status": status, "time": time_text, "msg": text}
            watched = {"id": number, "name": name, "url": url, "type": "http", "tags": tags}
            message = {"heartbeat": heartbeat if status is not None else None, "monitor": watched}
            return json.dumps({**message, "msg": f"[{name}] {text}"}, ensure_ascii=False).encode()

        end = None if ends_after is None else (ends_after, body(1, at + ends_after * _MINUTE, "200 - OK"))
        return Incident(at, _WEBSITES, body(0 if is_down else None, at, cause), answers, end)


_TICKETS = (
    ("Printer queue stuck, reception", "Initech", "Medium"),
    ("Mail delayed by 20 minutes", "Globex", "Medium"),
    ("ERP login fails for accounting", "Acme Corp", "High"),
    ("Backup job failed on fs-02", "Globex", "High"),
    ("Shared drive S: not reachable, Basel", "Initech", "High"),
    ("Label printer offline, warehouse", "Acme Corp", "Medium"),
    ("Teams calls drop in meeting room 4", "Globex", "Low"),
    ("Scanner to mail does not send", "Initech", "Low"),
    ("No outbound calls, branch office", "Acme Corp", "High"),
    ("Badge readers at the main entrance down", "Globex", "High"),
)
_METRICS = (
    ("DiskSpaceLow", "warning", "Acme Corp", ("db-primary", "Disk 91 % on db-primary")),
    ("LinkFlapping", "high", "Globex", ("edge-sw-07", "Uplink of edge-sw-07 flaps")),
    ("HighLatency", "warning", "Acme Corp", ("vpn-zrh-01", "VPN gateway vpn-zrh-01: latency 480 ms")),
    ("PacketLoss", "high", "Initech", ("wan-basel", "Packet loss 12 % to Basel")),
    ("MemoryPressure", "warning", "Globex", ("app-04", "Memory 96 % on app-04")),
)
_SHOP = (29, "Shop", "https://shop.example.org")
_PORTAL = (31, "Customer portal", "https://portal.example.org")
_API = (34, "Booking API", "https://api.example.org")
_MONITORS = (_SHOP, _PORTAL, _API)

_ACK, _TAKE, _REPLY = CommandKind.ACKNOWLEDGE, CommandKind.ASSIGN, CommandKind.REPLY
_WEB, _CALL, _EMAIL = CommandChannel.WEB, CommandChannel.VOICE, CommandChannel.EMAIL


def incidents(now: datetime) -> list[Incident]:
    """The incidents of the three weeks before `now`, the oldest first. Those that were not over by `now` are left out,
    but for the few that are still being worked on."""
    source = _Source(random.Random(8686))  # noqa: S311 - a story, no secret
    past = [one for one in (*_ordinary(source, now), *_remarkable(source, now)) if one.is_over_by(now - _MINUTE)]
    return sorted([*past, *_current(source, now)], key=lambda incident: incident.at)


def _halo_date(at: datetime) -> str:
    """A ticket's date, which Halo writes in its time zone without an offset."""
    return f"{at.astimezone(ZONE):%Y-%m-%dT%H:%M:%S}"


def local(now: datetime, days_ago: int, clock: str) -> datetime:
    """That local time of day, so many days before the day of `now`; in UTC."""
    day = now.astimezone(ZONE).date() - timedelta(days=days_ago)
    return datetime.combine(day, time.fromisoformat(clock), ZONE).astimezone(now.tzinfo)


def _ordinary(source: _Source, now: datetime) -> Iterator[Incident]:
    """Two or three a day in the office, fewer on weekends. Two days were quiet: an integration with messages every day
    would be reported as silent as soon as the demo has run for a day."""
    rng = source.random
    for days_ago in range(DAYS - 1, -1, -1):
        is_weekend = local(now, days_ago, "12:00").astimezone(ZONE).weekday() >= 5
        hours = rng.sample(range(8, 18), 1 if is_weekend else rng.choice((2, 2, 3)))
        for hour in sorted(hours):
            at = local(now, days_ago, f"{hour:02}:{rng.randrange(60):02}:{rng.randrange(60):02}")
            kind, answers, end = rng.random(), _answers(rng), rng.uniform(18, 140)
            if days_ago in (2, 3):
                continue
            if kind < 0.6:
                yield source.halo(at, *rng.choice(_TICKETS), ends_after=end, answers=answers)
            elif kind < 0.85:
                yield source.prometheus(at, *rng.choice(_METRICS), ends_after=end, answers=answers)
            else:
                monitor = rng.choice(_MONITORS)
                # It recovers before anybody answers.
                yield source.website(at, monitor, "timeout of 48000ms exceeded", "high", ends_after=rng.uniform(1, 4))


def _answers(rng: random.Random) -> tuple[Answer, ...]:
    """Mostly from the first person paged; sometimes only from the second."""
    after = rng.choice((rng.uniform(0.7, 2.8), rng.uniform(0.7, 2.8), rng.uniform(6, 8)))
    via = rng.choice((CommandChannel.SMS, _WEB, _EMAIL))
    if rng.random() < 0.4:
        return (Answer(after, _TAKE, via=via),)
    return (Answer(after, _ACK, via=via), Answer(after + rng.uniform(2, 8), _TAKE, via=_WEB))


def _remarkable(source: _Source, now: datetime) -> Iterator[Incident]:
    """What people remember: a night without the first answer, a storm, nobody at all, a false alarm, last night."""
    yield source.halo(
        local(now, 18, "02:47"), "Phone system down, all sites", "Acme Corp", "Critical", ends_after=74,
        user={"name": "José Ångström", "is_vip": True}, details="No dial tone at any site since 02:40.",
        answers=(Answer(7, _TAKE, via=_CALL),
                 Answer(31, _REPLY, note="SIP trunk of the carrier is down. They work on it."),
                 Answer(72, _REPLY, note="Calls work again.")),
    )  # fmt: skip
    broken = b'{"event": "new ticket logged",\n "object_id": 1,\n "ticket": {\n  "summary" }}'
    mended = Answer(6, CommandKind.CLOSE, note="Halo's template was incomplete. Corrected.", via=_WEB)
    yield Incident(local(now, 10, "15:31"), _HALO, broken, (mended,))
    yield from _storm(source, local(now, 12, "03:10"))
    yield source.website(
        local(now, 9, "22:41"), _SHOP, "connect ECONNREFUSED 203.0.113.10:443", "critical", ends_after=52,
        answers=(Answer(24, _TAKE, "dana", via=_WEB),
                 Answer(50, _REPLY, "dana", "Restarted the load balancer: a certificate renewal had stopped it.")),
    )  # fmt: skip
    yield source.prometheus(
        local(now, 7, "11:20"), "TemperatureHigh", "critical", "Globex", ("rack-4", "Temperature 85 °C in rack 4"),
        answers=(Answer(1.4, _ACK), Answer(16, CommandKind.CANCEL, note="Sensor fault: 22 °C on site.", via=_WEB)),
    )  # fmt: skip
    yield source.website(
        local(now, 5, "16:05"), _PORTAL, "server certificate portal.example.org will expire in 14 days", "low",
        is_down=False,
        answers=(Answer(9, CommandKind.HOLD, "alice", "Renewal is ordered.", _WEB, hours=17),
                 Answer(17 * 60 + 12, CommandKind.CLOSE, "alice", "Renewed.", _WEB)),
    )  # fmt: skip
    # In the maintenance window.
    yield source.prometheus(
        local(now, 5, "21:34"), "HostDown", "critical", "Globex", ("core-sw-02", "core-sw-02 is down"), ends_after=6
    )
    yield source.halo(local(now, 4, "10:02"), "Quarterly review", "Acme Corp", "Low", tickettype={"name": "Project"})
    yield source.halo(
        local(now, 1, "23:18"), "ERP unreachable for all sites", "Acme Corp", "Critical", ends_after=96,
        user={"name": "Mia Frei", "is_vip": True}, details="Error 503 from the application server since 23:10.",
        answers=(Answer(3.6, _TAKE, via=_CALL),
                 Answer(38, _REPLY, note="Application server restarted, users are coming back.", via=_WEB)),
    )  # fmt: skip
    yield source.prometheus(
        local(now, 0, "04:18"), "DiskSpaceLow", "critical", "Acme Corp", ("db-primary", "Disk 97 % on db-primary"),
        ends_after=27, answers=(Answer(2.2, _ACK),),
    )  # fmt: skip


def _storm(source: _Source, at: datetime) -> Iterator[Incident]:
    """A core switch fails, and with it all that hangs on it."""
    yield source.prometheus(
        at, "HostDown", "critical", "Globex", ("core-sw-01", "core-sw-01 is down"), ends_after=47,
        answers=(Answer(4, _TAKE, note="Going to the server room."),
                 Answer(41, _REPLY, note="Power supply replaced.", via=_WEB)),
    )  # fmt: skip
    for number in range(3):
        hosts = [f"srv-{number * 6 + host:02}.globex.example" for host in range(1, 7)]
        yield source.prometheus(
            at + timedelta(seconds=20 + number * 25), "HostDown", "high", "Globex",
            *((host, f"{host} is unreachable") for host in hosts), ends_after=40, answers=(Answer(5, _ACK),),
        )  # fmt: skip


def _current(source: _Source, now: datetime) -> Iterator[Incident]:
    """What people work on when the demo begins; and two alerts and a storm that wait for an answer."""
    yield source.halo(
        now - 205 * _MINUTE, "Projector without a signal, board room", "Globex", "Medium", ends_after=48,
        answers=(Answer(2.4, _TAKE),),
    )  # fmt: skip
    yield source.website(
        now - 170 * _MINUTE, _API, "server certificate api.example.org will expire in 9 days", "low",
        is_down=False,
        answers=(Answer(11, CommandKind.HOLD, "dana", "Renewal runs tomorrow.", _WEB, hours=20),),
    )  # fmt: skip
    yield source.prometheus(
        now - 68 * _MINUTE, "ReplicationLag", "high", "Acme Corp", ("db-replica", "Replication lag 40 s on db-replica"),
        answers=(Answer(2, _TAKE), Answer(20, _REPLY, note="A long report holds a lock. Waiting for it.", via=_WEB)),
    )  # fmt: skip
    yield source.prometheus(
        now - 24 * _MINUTE, "AccessPointDown", "warning", "Initech", ("ap-3f-02", "Access point ap-3f-02 offline"),
        answers=(Answer(1.6, _ACK),),
    )  # fmt: skip
    yield source.halo(
        now - 4 * _MINUTE, "Scanned invoices do not reach accounting", "Acme Corp", "High",
        user={"name": "Mia Frei"}, details="Nothing has arrived in the mailbox since this morning.",
    )  # fmt: skip
    yield source.website(now - 2 * _MINUTE, _PORTAL, "timeout of 48000ms exceeded", "critical")
    hosts = [f"web-{number:02}" for number in range(1, 61)]
    yield source.prometheus(
        now - 3 * _MINUTE, "HostDown", "high", "Globex",
        *((f"{host}.globex.example", f"Host {host} does not answer") for host in hosts),
    )  # fmt: skip
