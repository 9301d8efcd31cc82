"""Imports started from the web or the API: read, converted and applied in a background thread that reports its
progress.

The API key exists only in that thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event, Thread

from django.db import DatabaseError, connection, transaction

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.configure import config_files, export, plan, yaml_loader
from tocsin.configure.config_files import ConfigFiles
from tocsin.configure.models import ImportRun, ImportState
from tocsin.core.config import config_version, crypto
from tocsin.core.errors import Permanent, Rejected, RejectedAll, Temporary, TocsinError
from tocsin.core.runtime import clock
from tocsin.importers import existing_users
from tocsin.importers.products import PRODUCTS, Product, ProductDocuments
from tocsin.importers.report import by_weight

log = logging.getLogger(__name__)

#: A run without a sign of life for this long counts as interrupted: its process has ended.
SILENT = timedelta(seconds=90)
#: The heartbeat interval, and the minimum interval between progress updates, in seconds.
HEARD_EACH = 15.0
_BEAT = 2.0
_RUNNING = (ImportState.READING, ImportState.APPLYING)


class _RunDiscarded(Exception):
    """The run was discarded while in progress."""


def start(
    product: str,
    *,
    key: str = "",
    base: str = "",
    exported: bytes | None = None,
    file_name: str = "",
    with_keys: bool = False,
    actor: AuditActor,
    now: datetime,
) -> ImportRun:
    """Starts reading an account or an export, and replaces any earlier run.

    Raises Rejected with the field `product`, `key`, `api_base` or `file`, or Rejected("busy") during another run.
    """
    found = PRODUCTS.get(product)
    if found is None:
        raise Rejected("invalid", f'product: "{product[:40]}" is not one of {", ".join(PRODUCTS)}.', "product")
    if exported is not None:
        if found.read_export is None:
            raise Rejected("invalid", f"file: {found.title} has no export that can be read; give a key.", "file")
        read = found.read_export(exported)
        source, fetch = file_name or "an export", lambda run: read
    else:
        source = _check(found, key, base)
        fetch = lambda run: _fetched(found, key, base, run, now)  # noqa: E731 - the key stays in this thread
    run = _begin(found, source, actor, now)
    _in_thread(run.pk, lambda: _read(run.pk, found, fetch, with_keys))
    return run


def apply(run: ImportRun, *, actor: AuditActor, now: datetime) -> None:
    """Starts applying what was read, all or nothing. Raises Rejected("not_ready") if there is nothing to apply."""
    ready = ImportRun.objects.filter(pk=run.pk, state=ImportState.READY).exclude(configuration="")
    if not ready.update(state=ImportState.APPLYING, progress="", beat_at=now):
        raise Rejected("not_ready", "This import is not ready to be applied.")
    _in_thread(run.pk, lambda: _apply(run.pk, actor))


def discard(run: ImportRun) -> None:
    """Discards a run; a run that is still reading stops at its next step."""
    ImportRun.objects.filter(pk=run.pk).exclude(state=ImportState.APPLYING).delete()


def latest_run(now: datetime) -> ImportRun | None:
    """The latest run; a run whose process has ended is returned as failed."""
    run = ImportRun.objects.order_by("-pk").first()
    if run is not None and run.state in _RUNNING and run.beat_at < now - SILENT:
        run.state, run.problem = ImportState.FAILED, "It was interrupted: its server was stopped. Start again."
    return run


def yaml_of(run: ImportRun) -> str:
    """The YAML; "" if it has been removed."""
    return crypto.decrypt(run.configuration) if run.configuration else ""


def _check(product: Product, key: str, base: str) -> str:
    """The URL that will be read. Raises Rejected with the invalid field."""
    try:
        reader = product.reader(key, base, lambda text: None)
    except Permanent as problem:
        is_key = "key" in problem.detail
        raise Rejected("invalid", str(problem), "key" if is_key else "api_base") from None
    reader.close()
    return reader.base


def _begin(product: Product, source: str, actor: AuditActor, now: datetime) -> ImportRun:
    with transaction.atomic():
        config_version.lock()
        if ImportRun.objects.filter(state__in=_RUNNING, beat_at__gte=now - SILENT).exists():
            raise Rejected("busy", "Another import is running. Wait for it, or throw it away first.")
        ImportRun.objects.all().delete()
        run = ImportRun.objects.create(
            product=product.name,
            source=source[:300],
            started_by=actor.name,
            started_at=now,
            state=ImportState.READING,
            beat_at=now,
        )
        audit.record(
            actor,
            "begin_import",
            now=now,
            object_type="import",
            object_id=run.pk,
            object_name=f"{product.title}: {source[:150]}",
        )
    return run


def _in_thread(number: int, work: Callable[[], None]) -> None:
    def run() -> None:
        try:
            with _heard_of(number):
                work()
        except _RunDiscarded:
            pass
        except RejectedAll as problem:
            _fail(number, " ".join(one.detail for one in problem.problems[:5]))
        except TocsinError as problem:
            _fail(number, str(problem))
        except Exception:
            # The thread's edge: whatever happened, the browser must not wait forever.
            log.exception("import %s failed", number)
            _fail(number, "Something unexpected went wrong; the log of the server says what.")
        finally:
            connection.close()

    Thread(target=run, name=f"import-{number}", daemon=True).start()


@contextmanager
def _heard_of(number: int) -> Iterator[None]:
    """Sends heartbeats for a run during a long step: applying a large account takes minutes."""
    ended = Event()

    def beat() -> None:
        while not ended.wait(HEARD_EACH):
            try:
                ImportRun.objects.filter(pk=number).update(beat_at=clock.now())
            except DatabaseError as error:
                log.warning("import %s is not heard of: %s", number, error)
        connection.close()

    beating = Thread(target=beat, name=f"beat-of-import-{number}", daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()


def _read(number: int, product: Product, fetch: Callable[[_ProgressWriter], ProductDocuments], with_keys: bool) -> None:
    told = _ProgressWriter(number)
    read = fetch(told)
    told("Translating…", at_once=True)
    now = clock.now()
    found = product.translate(read, now, existing_users.users(now), with_keys=with_keys)
    text = export.write(dict(found.configuration))
    told("Comparing with what is here…", at_once=True)
    lines: list[str] = []
    refusals: list[str] = []
    try:
        lines = [str(line) for line in plan.preview(_sources(text), prune=False, now=now).lines]
    except Rejected as problem:
        refusals = [one.detail for one in (problem.problems if isinstance(problem, RejectedAll) else (problem,))]
    _change(
        number,
        state=ImportState.READY,
        progress="",
        configuration=crypto.encrypt(text) if text else "",
        counts=found.counts(),
        findings=[finding.as_json() for finding in by_weight(found.findings)],
        plan=lines,
        refusals=refusals,
    )


def _apply(number: int, actor: AuditActor) -> None:
    run = ImportRun.objects.get(pk=number)
    done = plan.apply(_sources(yaml_of(run)), prune=False, now=clock.now(), actor=actor)
    _change(number, state=ImportState.APPLIED, configuration="", progress="", plan=[str(line) for line in done.lines])


def _sources(text: str) -> ConfigFiles:
    return config_files.collect([yaml_loader.parse(text, "import", Path())])


def _fail(number: int, problem: str) -> None:
    ImportRun.objects.filter(pk=number).update(state=ImportState.FAILED, problem=problem[:2000], progress="")


def _change(number: int, **fields: object) -> None:
    if not ImportRun.objects.filter(pk=number).update(beat_at=clock.now(), **fields):
        raise _RunDiscarded


class _ProgressWriter:
    """Writes a run's progress to its row, at most every few seconds."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._last = 0.0

    def __call__(self, text: str, *, at_once: bool = False) -> None:
        if at_once or time.monotonic() - self._last > _BEAT:
            self._last = time.monotonic()
            _change(self._number, progress=text[:300])

    def wait(self, seconds: float) -> None:
        """Waits while still sending heartbeats."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 10.0))
            _change(self._number)


def _fetched(product: Product, key: str, base: str, told: _ProgressWriter, now: datetime) -> ProductDocuments:
    reader = product.reader(key, base, told)
    reader.wait = told.wait
    try:
        return product.fetch(reader, now)
    except Temporary as trouble:
        raise Permanent(str(trouble)) from None
    finally:
        reader.close()
