"""What a process keeps open for its configuration: providers, outbound integrations. Reloads when that changes."""

from __future__ import annotations

import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from tocsin.core.config import config_version
from tocsin.core.db.database import Connection

#: In seconds. What was replaced is closed after this delay, when its sends in progress have finished.
_CLOSE_DELAY = 120.0


class LivePool[K, T](ABC):
    """Open items by key, as of the configuration that `refresh` last loaded. One per process; read by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = -1
        self._open: dict[K, tuple[str, T]] = {}
        self._loading: dict[K, tuple[str, T]] = {}
        self._retired: list[tuple[float, T]] = []

    def refresh(self, connection: Connection) -> None:
        """Reloads if the configuration version has changed."""
        with self._lock:
            self._close_retired(time.monotonic())
            version = config_version.current_version(connection)
            if version == self._version:
                return
            self._loading = {}
            self._load(connection)
            for key, (fingerprint, item) in self._open.items():
                if self._loading.get(key, ("", item))[0] != fingerprint:
                    self._retired.append((time.monotonic() + _CLOSE_DELAY, item))
            self._open, self._version = self._loading, version

    def close(self) -> None:
        """Closes every item."""
        with self._lock:
            self._retired += [(0.0, item) for _, item in self._open.values()]
            self._open, self._loading, self._version = {}, {}, -1
            self._close_retired(float("inf"))

    def _reuse_or_open(self, key: K, configuration: object, open_item: Callable[[], T]) -> T:
        """Returns the open item if its configuration is unchanged, so that its connections are kept; else opens a new
        one. For `_load`. `configuration` is JSON.
        """
        fingerprint = json.dumps(configuration, sort_keys=True, default=str)
        existing = self._open.get(key)
        is_unchanged = existing is not None and existing[0] == fingerprint
        self._loading[key] = existing if is_unchanged and existing is not None else (fingerprint, open_item())
        return self._loading[key][1]

    def _close_retired(self, now: float) -> None:
        for _, item in [pair for pair in self._retired if pair[0] <= now]:
            self._close_item(item)
        self._retired = [pair for pair in self._retired if pair[0] > now]

    @abstractmethod
    def _load(self, connection: Connection) -> None:
        """Opens all items of the current configuration by `_reuse_or_open`."""

    @abstractmethod
    def _close_item(self, item: T) -> None:
        """Closes the connections of one item."""
