"""Serves all static files below one URL prefix that contains a digest of their content, so browsers may cache them
forever.

The digest is part of STATIC_URL. Relative URLs inside the files stay valid, and no collectstatic step is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

STATIC = Path(__file__).resolve().parent.parent / "static"
PREFIX = "/static/"

#: Packages that ship their own static files.
_PACKAGES_WITH_STATIC_FILES = ("django-allauth",)

#: Suffixes of the precompressed variants that the build step writes beside a file.
COMPRESSED = (".br", ".gz")


@cache
def static_url() -> str:
    """Return `/static/<digest>/`. The URL is identical on every node that runs the same version."""
    digest = hashlib.sha256()
    for package in _PACKAGES_WITH_STATIC_FILES:
        digest.update(f"{package} {version(package)}\n".encode())
    for file in _sources():
        digest.update(str(file.relative_to(STATIC)).encode() + b"\n" + file.read_bytes())
    return f"{PREFIX}{digest.hexdigest()[:12]}/"


def is_immutable(path: str, url: str) -> bool:
    """Return whether browsers may cache the file forever, which holds for every URL below the current digest."""
    return url.startswith(static_url())


def _sources() -> Iterator[Path]:
    for file in sorted(STATIC.rglob("*")):
        if file.is_file() and file.suffix not in COMPRESSED:
            yield file
