"""Imports started from the web or the API: read, converted and applied in a background thread that reports its
progress.

The API key exists only in that thread.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

from django.db import DatabaseError, connection, transaction

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.configure import config_files, plan, yaml_loader
from tocsin.configure.config_files import ConfigFiles
from tocsin.configure.models import ImportRun, ImportState
from tocsin.core.config import crypto, environment, settings_store
from tocsin.core.errors import Permanent, Rejected, RejectedAll, Temporary
from tocsin.core.reasons import NO_REASON, Reason, joined, reason_as_json
from tocsin.core.runtime import clock
from tocsin.core.validation.inputs import AT_PATH, fold_login
from tocsin.importers import alertops, grafana_oncall, opsgenie, pagerduty, reasons
from tocsin.importers.api_reader import InvalidKey, ProgressCallback
from tocsin.importers.config_builder import ExistingUser, Product, ProductDocuments
from tocsin.people.changes import out_of_office
from tocsin.people.models import User

PRODUCTS: Final[Mapping[str, Product]] = {
    product.name: product for product in (opsgenie.PRODUCT, pagerduty.PRODUCT, grafana_oncall.PRODUCT, alertops.PRODUCT)
}


_SAMPLES: Final = Path(__file__).parent / "samples"


def existing_users(now: datetime) -> dict[str, ExistingUser]:
    """Existing users by lower-case e-mail address, so that an import neither duplicates nor changes them."""
    absences: dict[int, list[dict[str, Any]]] = {}
    for absence in out_of_office.rows().filter(ends_at__gt=now):
        absences.setdefault(absence.user_id, []).append(out_of_office.nested_spec(absence))
    return {
        fold_login(user.email): ExistingUser(
            user.username, user.role, user.name, user.time_zone, user.is_active, tuple(absences.get(user.pk, ()))
        )
        for user in User.objects.all()
        if user.email
    }


def fetch(
    product: Product,
    key: str,
    base: str,
    now: datetime,
    progress: ProgressCallback,
    sleep: Callable[[float], None] | None = None,
) -> ProductDocuments:
    """Reads all documents of an account; `not_shown` is what the key may not read.

    Raises Permanent or Temporary with a message for users.
    """
    reader = product.reader(key, base, progress)
    reader.sleep = sleep or reader.sleep
    try:
        return {**product.fetch(reader, now), "not_shown": reader.unreadable}
    finally:
        reader.close()


log = logging.getLogger(__name__)

#: A run without a sign of life for this long counts as interrupted: its process has ended.
HEARTBEAT_TIMEOUT = timedelta(seconds=90)
#: The heartbeat interval, and the minimum interval between progress updates, in seconds.
HEARTBEAT_INTERVAL = 15.0
_PROGRESS_INTERVAL = 2.0
_RUNNING = (ImportState.READING, ImportState.APPLYING)


class _RunDiscarded(Exception):
    """The run was discarded while in progress."""


def start(
    product: str,
    *,
    key: str = "",
    base: str = "",
    export_content: bytes | None = None,
    file_name: str = "",
    is_sample: bool = False,
    with_keys: bool = False,
    actor: AuditActor,
    now: datetime,
) -> ImportRun:
    """Starts reading an account, an export or the demo's sample of an account, and replaces any earlier run.

    Raises Rejected with the field `product`, `key`, `api_base` or `file`, or Rejected("busy") during another run.
    """
    importer = PRODUCTS.get(product)
    if importer is None:
        unknown = reasons.UNKNOWN_PRODUCT(product=product[:40], products=", ".join(PRODUCTS))
        raise Rejected("invalid", AT_PATH(path="product", problem=unknown), "product")
    if is_sample:
        if product not in sample_products():
            raise Rejected("invalid", AT_PATH(path="sample", problem=reasons.NO_SAMPLE()), "sample")
        sample = json.loads((_SAMPLES / f"{product}.json").read_text("utf-8"))
        source, read = "sample account", lambda run: sample
    elif export_content is not None:
        if importer.read_export is None:
            no_export = reasons.NO_EXPORT(product=importer.title)
            raise Rejected("invalid", AT_PATH(path="file", problem=no_export), "file")
        documents = importer.read_export(export_content)
        source, read = file_name or "an export", lambda run: documents
    else:
        source = _check(importer, key, base)
        # The key stays in this thread.
        read = lambda run: fetch(importer, key, base, now, run, run.sleep)  # noqa: E731
    run = _create_run(importer, source, actor, now)
    _in_thread(run.pk, lambda: _read_account(run.pk, importer, read, with_keys))
    return run


def sample_products() -> list[str]:
    """Returns the products of which the demo has a sample account; none outside the demo, where its users would be
    strangers."""
    return [name for name in PRODUCTS if (_SAMPLES / f"{name}.json").exists()] if environment.current().is_demo else []


def apply(run: ImportRun, *, actor: AuditActor, now: datetime) -> None:
    """Starts applying what was read, all or nothing. Raises Rejected("not_ready") if there is nothing to apply."""
    ready = ImportRun.objects.filter(pk=run.pk, state=ImportState.READY).exclude(configuration="")
    if not ready.update(state=ImportState.APPLYING, beat_at=now, progress=NO_REASON):
        raise Rejected("not_ready", reasons.NOT_READY())
    _in_thread(run.pk, lambda: _apply(run.pk, actor))


def discard(run: ImportRun) -> None:
    """Discards a run; a run that is still reading stops at its next step."""
    ImportRun.objects.filter(pk=run.pk).exclude(state=ImportState.APPLYING).delete()


def latest_run(now: datetime) -> ImportRun | None:
    """The latest run; a run whose process has ended is returned as failed."""
    run = ImportRun.objects.order_by("-pk").first()
    if run is not None and run.state in _RUNNING and run.beat_at < now - HEARTBEAT_TIMEOUT:
        run.state, run.problem = ImportState.FAILED, reasons.INTERRUPTED()
    return run


def decrypted_yaml(run: ImportRun) -> str:
    """The YAML; "" if it has been removed."""
    return crypto.decrypt(run.configuration) if run.configuration else ""


def _check(product: Product, key: str, base: str) -> str:
    """The URL that will be read. Raises Rejected with the invalid field."""
    try:
        reader = product.reader(key, base, lambda progress: None)
    except InvalidKey as problem:
        raise Rejected("invalid", problem.full_reason, "key") from None
    except Permanent as problem:
        raise Rejected("invalid", problem.full_reason, "api_base") from None
    reader.close()
    return reader.base


def _create_run(product: Product, source: str, actor: AuditActor, now: datetime) -> ImportRun:
    with transaction.atomic():
        settings_store.lock()
        if ImportRun.objects.filter(state__in=_RUNNING, beat_at__gte=now - HEARTBEAT_TIMEOUT).exists():
            raise Rejected("busy", reasons.ANOTHER_RUNNING())
        ImportRun.objects.all().delete()
        run = ImportRun.objects.create(
            product=product.name,
            source=source[:300],
            started_by=actor.name,
            started_at=now,
            state=ImportState.READING,
            beat_at=now,
        )
        name = f"{product.title}: {source[:150]}"
        audit.record(actor, "begin_import", now=now, object_type="import", object_id=run.pk, object_name=name)
    return run


def _in_thread(run_id: int, task: Callable[[], None]) -> None:
    def run() -> None:
        try:
            with _heartbeats(run_id):
                task()
        except _RunDiscarded:
            pass
        except RejectedAll as problem:
            _fail(run_id, joined(*(item.reason for item in problem.problems[:5]), separator=" "))
        except (Rejected, Temporary, Permanent) as problem:
            _fail(run_id, problem.full_reason)
        except Exception:
            # The thread's edge: whatever happened, the browser must not wait forever.
            log.exception("import %s failed", run_id)
            _fail(run_id, reasons.UNEXPECTED_ERROR())
        finally:
            connection.close()

    Thread(target=run, name=f"import-{run_id}", daemon=True).start()


@contextmanager
def _heartbeats(run_id: int) -> Iterator[None]:
    """Sends heartbeats for a run during a long step: applying a large account takes minutes."""
    stopped = Event()

    def send_heartbeats() -> None:
        while not stopped.wait(HEARTBEAT_INTERVAL):
            try:
                ImportRun.objects.filter(pk=run_id).update(beat_at=clock.now())
            except DatabaseError as error:
                log.warning("import %s is not heard of: %s", run_id, error)
        connection.close()

    heartbeat_thread = Thread(target=send_heartbeats, name=f"beat-of-import-{run_id}", daemon=True)
    heartbeat_thread.start()
    try:
        yield
    finally:
        stopped.set()
        heartbeat_thread.join()


def _read_account(
    run_id: int, product: Product, read: Callable[[_ProgressWriter], ProductDocuments], with_keys: bool
) -> None:
    progress = _ProgressWriter(run_id)
    documents = read(progress)
    progress(reasons.CONVERTING(), is_forced=True)
    now = clock.now()
    converted = product.convert(documents, now, existing_users(now), with_keys=with_keys)
    text = plan.write(dict(converted.configuration))
    progress(reasons.COMPARING(), is_forced=True)
    lines: list[str] = []
    refusals: list[dict[str, Any]] = []
    try:
        lines = [str(line) for line in plan.preview(_sources(text), prune=False, now=now).lines]
    except Rejected as problem:
        problems = problem.problems if isinstance(problem, RejectedAll) else (problem,)
        refusals = [reason_as_json(item.reason) for item in problems]
    _change(
        run_id,
        state=ImportState.READY,
        progress=NO_REASON,
        configuration=crypto.encrypt(text) if text else "",
        counts=converted.counts(),
        findings=[finding.as_json() for finding in converted.findings],
        plan=lines,
        refusals=refusals,
    )


def _apply(run_id: int, actor: AuditActor) -> None:
    run = ImportRun.objects.get(pk=run_id)
    applied = plan.apply(_sources(decrypted_yaml(run)), prune=False, now=clock.now(), actor=actor)
    lines = [str(line) for line in applied.lines]
    _change(run_id, state=ImportState.APPLIED, configuration="", progress=NO_REASON, plan=lines)


def _sources(text: str) -> ConfigFiles:
    return config_files.collect([yaml_loader.parse(text, "import", Path())])


def _fail(run_id: int, problem: Reason) -> None:
    ImportRun.objects.filter(pk=run_id).update(state=ImportState.FAILED, problem=problem, progress=NO_REASON)


def _change(run_id: int, **fields: object) -> None:
    if not ImportRun.objects.filter(pk=run_id).update(beat_at=clock.now(), **fields):
        raise _RunDiscarded


class _ProgressWriter:
    """Writes a run's progress to its row, at most every few seconds."""

    def __init__(self, run_id: int) -> None:
        self._run_id = run_id
        self._last_write = 0.0

    def __call__(self, progress: Reason, *, is_forced: bool = False) -> None:
        if is_forced or time.monotonic() - self._last_write > _PROGRESS_INTERVAL:
            self._last_write = time.monotonic()
            _change(self._run_id, progress=progress)

    def sleep(self, seconds: float) -> None:
        """Waits while still sending heartbeats."""
        end = time.monotonic() + seconds
        while (remaining := end - time.monotonic()) > 0:
            time.sleep(min(remaining, 10.0))
            _change(self._run_id)
