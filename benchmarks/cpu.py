"""CPU: what one message costs the thread that works on it, comparable on a busy machine.

Microseconds of this thread's CPU time and numbers of calls (Python and C), each for one message: a new one, a repeated
one, the escalation step of its alert, and its page without the provider. Batches of 200, on a real PostgreSQL.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tocsin.settings")
os.environ.setdefault("TOCSIN_SECRET_KEY", "a-key-for-benchmarks-0123456789abcdef")
django.setup()

from benchmarks.harness import SECONDS, report  # noqa: E402
from tests.support.ingest import Ingest, message  # noqa: E402
from tests.support.postgres import TEMPLATE, in_use, running  # noqa: E402
from tocsin.configure import config_files, plan, yaml_loader  # noqa: E402
from tocsin.core.db import database  # noqa: E402
from tocsin.core.runtime import clock  # noqa: E402
from tocsin.escalation.tasks import EscalationTask  # noqa: E402
from tocsin.inbound.models import Integration  # noqa: E402
from tocsin.inbound.processing import batch  # noqa: E402
from tocsin.notify.dispatch.claim import DeliveryJob, claim  # noqa: E402
from tocsin.notify.dispatch.results import record  # noqa: E402
from tocsin.notify.dispatch.send import send  # noqa: E402
from tocsin.notify.providers.pool import ProviderPool  # noqa: E402

MESSAGES = 200
#: The fastest counts: others are disturbed by the collector of garbage, and by other processes in the caches.
ROUNDS = 2 * SECONDS

CONFIGURATION = """
settings: {{bundle_pages: false}}
users:
{users}
escalation_policies:
  - name: Now
    steps:
      - {{notify: {{roles: [primary]}}, after: 0m}}
groups:
{groups}
integrations:
  - name: API
    kind: api
    anyway: true
    escalation_policy: Now
    mapping: {{recipient_groups: to, source_id: id, subject: subject}}
    token: 0123456789abcdef0123456789abcdef
providers:
  - {{name: Phones, kind: ntfy, channels: [ntfy], api_base: "https://ntfy.example.org"}}
"""


class NoSender:
    """Accepts each message at once."""

    def send(self, *_: object) -> str:
        """Returns a receipt without a number."""
        return ""


class Calls:
    """Counts calls while it is active."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Is called by the interpreter."""
        self.number += event in ("call", "c_call")


class Figures:
    """The least of each kind of work."""

    def __init__(self) -> None:
        self.microseconds: dict[str, float] = {}
        self.calls: dict[str, float] = {}

    def measure[T](self, name: str, work: Callable[[], T], *, is_counted: bool) -> T:
        """Runs the work; returns its result. Counting makes it slower, so that its time is left out then."""
        if is_counted:
            calls = Calls()
            sys.setprofile(calls)
            try:
                return work()
            finally:
                sys.setprofile(None)
                self.calls[name] = calls.number / MESSAGES
        started_at = time.thread_time()
        result = work()
        spent = 1e6 * (time.thread_time() - started_at) / MESSAGES
        self.microseconds[name] = min(spent, self.microseconds.get(name, spent))
        return result


def configure() -> Integration:
    """Applies the configuration: 50 groups, in each a user with a phone."""
    users = "\n".join(
        f"  - {{username: user{n}, email: user{n}@example.org, contact_methods: "
        f"[{{label: Phone, channel: ntfy, address: phone{n}}}]}}"
        for n in range(50)
    )
    groups = "\n".join(f"  - {{name: Group {n}, members: [{{user: user{n}, roles: [primary]}}]}}" for n in range(50))
    text = CONFIGURATION.format(users=users, groups=groups)
    plan.apply(config_files.collect([yaml_loader.parse(text, "cpu", Path())]), prune=False, now=clock.now())
    return Integration.objects.get(name="API")


def claim_all(pool: ProviderPool) -> list[DeliveryJob]:
    """Claims the pages, and has the provider accept each at once."""
    with database.transaction() as connection:
        pool.refresh(connection)
        claimed = claim(connection, pool, Counter(), {}, node="cpu", slots=MESSAGES, now=clock.now(), pause=None)
    return [replace(job, active_provider=replace(job.active_provider, sender=NoSender())) for job in claimed.jobs]


def page(pool: ProviderPool) -> int:
    """Composes, sends and records all pages that are due; returns how many."""
    number = 0
    while jobs := claim_all(pool):
        results = [send(job, clock.now, lambda: None) for job in jobs]
        with database.transaction() as connection:
            record(connection, pool, results, "cpu", lambda: 0.5)
        number += len(jobs)
    return number


def escalate(task: EscalationTask) -> None:
    """Decides all runs that are due."""
    while task.run_once(clock.now()):
        pass


def main() -> None:
    """Measures in rounds, and counts in one more."""
    figures, paged = Figures(), 0
    with running() as server, in_use(server.make("cpu", TEMPLATE)):
        integration, ingest, task, pool = configure(), Ingest(), EscalationTask(), ProviderPool()
        ingest.registry.refresh()
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        with database.connect(name="cpu") as connection:
            for number in range(ROUNDS + 2):
                is_counted = number > ROUNDS
                bodies = [
                    {"id": f"cpu-{number}-{n}", "subject": f"VPN down {n}", "status": "open", "to": [f"Group {n % 50}"]}
                    for n in range(MESSAGES)
                ]
                for name in ("new message", "duplicate"):
                    now = clock.now()
                    incoming = [message(integration, json.dumps(body).encode(), now) for body in bodies]
                    figures.measure(
                        name,
                        lambda: batch.process(connection, ingest.registry, ingest.numbers, incoming, now),  # noqa: B023
                        is_counted=is_counted,
                    )
                figures.measure("escalation step", lambda: escalate(task), is_counted=is_counted)
                paged += figures.measure("page", lambda: page(pool), is_counted=is_counted)
        pool.close()
    report(
        "cpu",
        {f"{name}, CPU µs": figure for name, figure in figures.microseconds.items()}
        | {f"{name}, calls": figure for name, figure in figures.calls.items()},
        {"every message paged once": paged == MESSAGES * (ROUNDS + 2)},
    )


if __name__ == "__main__":
    main()
