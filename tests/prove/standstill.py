"""Processor time is short in a storm of alerts, or all nodes get none at all for a quarter of an hour."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPException
from pathlib import Path

from tests.prove.bench import Bench, Fault
from tests.prove.pair import with_descendants
from tests.prove.scenario import Scenario
from tests.prove.worlds import OwnPostgres, external
from tests.support.installation import HALO_TOKEN, Installation, ask, until

_STORM_TOKEN = "fedcba9876543210fedcba9876543210"
#: The alerts of a storm, each of which pages everybody of a group, and those of the short version.
_ALERTS, _ALERTS_SHORT = 2000, 400
_PEOPLE = 200
#: The ticket numbers of others are below.
_FIRST = 1_000_000
#: Seconds under the storm, and in the short version.
_STORM, _STORM_SHORT = 240.0, 60.0
_CORES = 0.1
_GROUP = "tocsin-prove"
#: Tickets a second meanwhile, each for a person of its own: no page waits to be bundled with the one before.
_RATE = 1 / 5
_OTHERS = 200

#: For how long all nodes stand still, and after how many seconds whatever they do too much has arrived.
_STILL, _AFTERWARDS = 900.0, 20.0
#: The person who is paged four times within that time.
_REPEATS = """
users:
  - username: alice
    name: Alice Andersson
    email: alice@example.org
    role: responder
    contact_methods:
      - {label: Email-Official, channel: email, address: alice@example.org, repeat: {times: 4, every: 3m}}
"""


def _storm_configuration() -> str:
    storm, others = [f"responder{number}" for number in range(_PEOPLE)], [f"other{n}" for n in range(1, _OTHERS + 1)]
    users = "\n".join(
        f"  - {{username: {name}, email: {name}@example.org, role: responder, contact_methods: "
        f"[{{label: Email, channel: email, address: {name}@example.org}}]}}"
        for name in (*storm, *others)
    )
    members = ", ".join(f"{{user: {name}, roles: [primary]}}" for name in storm)
    return f"""
settings: {{bundle_pages: true}}
users:
{users}
groups:
  - {{name: Everybody, members: [{members}]}}
escalation_policies:
  - {{name: Everybody, steps: [{{notify: {{everybody: true}}, after: 0m}}]}}
integrations:
  - name: Storm
    kind: haloitsm
    escalation_policy: Everybody
    recipients: {{groups: [Everybody]}}
    token: {_STORM_TOKEN}
  - name: HaloITSM
    kind: haloitsm
    anyway: true
    mapping: {{recipient_users: {{template: "other<id>"}}}}
    token: {HALO_TOKEN}
"""


@contextmanager
def _before_a_storm(configured: Installation) -> Iterator[Bench]:
    """One node and its PostgreSQL, with an integration that pages many."""
    with external(configured, configuration=_storm_configuration()) as bench:
        bench.senders.rate = _RATE
        yield bench


@contextmanager
def _with_repeats(configured: Installation) -> Iterator[Bench]:
    """One node, and a person who is paged repeatedly."""
    with external(configured, configuration=_REPEATS) as bench:
        yield bench


def _storm(bench: Bench) -> Fault:
    """Everybody of a group is paged about each of many alerts, and the tickets of others have their turn meanwhile."""
    postgres: OwnPostgres = bench.parts["postgres"]
    count, at = _ALERTS_SHORT if bench.is_short else _ALERTS, time.monotonic()
    with _little_processor([*with_descendants(bench.node.pid), *with_descendants(postgres.pid)]) as how:
        for first in range(0, count, 100):
            numbers = range(first, first + 100)
            alerts = [{"id": _FIRST + number, "summary": f"Storm {number}", "status": "New"} for number in numbers]
            until("the storm is taken", partial(_is_taken, f"{bench.senders.url()}/in/{_STORM_TOKEN}", alerts), 180)
        time.sleep(_STORM_SHORT if bench.is_short else _STORM)
        (queued,) = bench.installation.rows("SELECT count(*) FROM notify_notification")
    return Fault(f"{count} alerts for {_PEOPLE} people at {how}", at, f"{queued['count']} pages queued meanwhile")


def _is_taken(url: str, alerts: list[dict[str, object]]) -> bool:
    try:
        return ask("POST", url, alerts, seconds=60).status in (200, 202)
    except (OSError, HTTPException):
        return False


@contextmanager
def _little_processor(pids: Sequence[int]) -> Iterator[str]:
    """Leaves a tenth of a core to these processes: by a control group where one can be made, else by busy neighbours
    with a higher priority."""
    group = Path("/sys/fs/cgroup") / _GROUP
    limit, quota, everything = "cpu.max", f"{int(_CORES * 100_000)} 100000", "max 100000"
    if not (group.parent / "cgroup.controllers").exists():
        group = Path("/sys/fs/cgroup/cpu") / _GROUP
        limit, quota, everything = "cpu.cfs_quota_us", f"{int(_CORES * 100_000)}", "-1"
    try:
        if limit == "cpu.max":
            (group.parent / "cgroup.subtree_control").write_text("+cpu")
        group.mkdir(exist_ok=True)
        (group / limit).write_text(quota)
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
    except OSError:
        with _busy_neighbours(pids):
            yield "the priority 19 beside four busy processes a core"
        return
    try:
        yield f"{_CORES} of a core"
    finally:
        # The group stays until its processes have ended.
        (group / limit).write_text(everything)


@contextmanager
def _busy_neighbours(pids: Sequence[int]) -> Iterator[None]:
    threads = [int(task.name) for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    for thread in threads:
        os.setpriority(os.PRIO_PROCESS, thread, 19)
    busy = [sys.executable, "-c", "while True: pass"]
    burners = [subprocess.Popen(busy) for _ in range(4 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
        for thread in threads:
            with suppress(ProcessLookupError, PermissionError):
                os.setpriority(os.PRIO_PROCESS, thread, 0)


def _stand_still(bench: Bench) -> Fault:
    """Every node stops. What falls due meanwhile leaves once for each alert and person: as it is counted from the end
    on, a repeat too many is a page by a second delivery."""
    bench.sleep(3.0, 5.0)
    bench.settle([bench.senders.run])
    pids = with_descendants(bench.node.pid)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    bench.pages.forget(frozenset(one.number for one in bench.senders.of_run(bench.senders.run)))
    bench.installation.jump(seconds=_STILL)
    at = time.monotonic()
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    bench.senders.resume()
    time.sleep(_AFTERWARDS)
    return Fault(f"all nodes stood still for {_STILL / 60:.0f} minutes", at, is_over=True)


SCENARIOS = [
    Scenario("storm-at-a-tenth-of-a-core", _before_a_storm, _storm, runs=1, max_page=10.0, needs_root=True),
    Scenario("all-nodes-stand-still", _with_repeats, _stand_still, runs=3),
]
