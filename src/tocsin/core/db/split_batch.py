"""A batch of rows in one transaction, of which one bad row must not stop the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial

from tocsin.core.db import database

log = logging.getLogger(__name__)


def run_or_split[K, R](
    what: str,
    batch: Callable[[], R],
    keys: Callable[[], Iterable[K]],
    single: Callable[[K], object],
    failed: Callable[[K, Exception], None],
    *,
    caught: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> R | None:
    """Runs `batch`, a whole transaction, and returns its result. If it fails with an error of `caught`, runs `single`
    for each of `keys` by itself, passes those that fail to `failed`, and returns None. `what` names the batch in the
    log. An unavailable database is no fault of a row: that error is raised."""
    try:
        return database.retry_once(batch)
    except caught as error:
        if database.is_unavailable(error):
            raise
        log.exception("%s failed together; each is tried by itself.", what)
    for key in keys():
        run_alone(key, single, failed, caught=caught)
    return None


def run_alone[K](
    key: K,
    single: Callable[[K], object],
    failed: Callable[[K, Exception], None],
    *,
    caught: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> bool:
    """Runs `single`, a whole transaction, for one row. Returns False if it failed, and was passed to `failed`."""
    try:
        database.retry_once(partial(single, key))
    except caught as error:
        if database.is_unavailable(error):
            raise
        failed(key, error)
        return False
    return True
