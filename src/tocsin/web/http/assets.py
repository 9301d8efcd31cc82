"""Static files under one address that changes with their content, so that browsers may keep them for ever.

The digest of all files is part of STATIC_URL; relative addresses inside them stay right, and nothing is collected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

STATIC = Path(__file__).resolve().parent / "static"
PREFIX = "/static/"

#: Packages that bring static files of their own.
_OTHERS = ("django-allauth",)

#: Endings of the compressed forms that the build step puts beside a file.
COMPRESSED = (".br", ".gz")


@cache
def static_url() -> str:
    """`/static/<digest>/`, the same on every node that runs the same version."""
    digest = hashlib.sha256()
    for package in _OTHERS:
        digest.update(f"{package} {version(package)}\n".encode())
    for file in _sources():
        digest.update(str(file.relative_to(STATIC)).encode() + b"\n" + file.read_bytes())
    return f"{PREFIX}{digest.hexdigest()[:12]}/"


def is_immutable(path: str, url: str) -> bool:
    """Whether a browser may keep the file for ever: everything below the digest."""
    return url.startswith(static_url())


def _sources() -> Iterator[Path]:
    for file in sorted(STATIC.rglob("*")):
        if file.is_file() and file.suffix not in COMPRESSED:
            yield file
