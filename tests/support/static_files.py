"""Static files are looked for once per process: each test client would look for all of them again, for 5 ms."""

from __future__ import annotations

from typing import Any

from whitenoise.middleware import WhiteNoiseMiddleware as WhiteNoiseMiddleware

_find = WhiteNoiseMiddleware.add_files_from_finders
_found: dict[str, Any] = {}


def _add_found(middleware: WhiteNoiseMiddleware) -> None:
    """Takes the place of WhiteNoise's method."""
    if not _found:
        _find(middleware)
        _found.update(middleware.files)
    middleware.files.update(_found)


WhiteNoiseMiddleware.add_files_from_finders = _add_found
