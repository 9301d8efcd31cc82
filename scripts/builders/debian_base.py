"""Root file systems of Debian, made from its packages: bases of the image, and clean systems for tests."""

import datetime
from pathlib import Path

import bring

from builders import release

SUITE = "trixie"

FOLDER = bring.ROOT / "build" / "debian"

#: As Debian's own slim images: no manual pages, no translations; the licences stay.
_LEFT_OUT = (
    *(f"path-exclude=/usr/share/{folder}/*" for folder in ("doc", "info", "locale", "man", "lintian")),
    "path-include=/usr/share/doc/*/copyright",
)


def make(name: str, packages: tuple[str, ...], *, with_apt: bool = False) -> Path:
    """The archive build/debian/NAME.tar with Debian's essential packages and these. It is made anew each day, so that
    it has the latest security updates."""
    archive = FOLDER / f"{name}.tar"
    stamp = archive.with_suffix(".made-from")
    made_from = f"{datetime.datetime.now(datetime.UTC).date()} {with_apt} {' '.join(packages)}"
    if archive.is_file() and stamp.is_file() and stamp.read_text() == made_from:
        return archive
    mmdebstrap = release.needs_program("mmdebstrap", "mmdebstrap")
    cache = FOLDER / "packages"
    cache.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    inside = '"$1"/var/cache/apt/archives'
    command = [
        mmdebstrap, "--mode=root", f"--variant={'apt' if with_apt else 'essential'}", f"--include={','.join(packages)}",
        *(f"--dpkgopt={option}" for option in _LEFT_OUT),
        # The packages are downloaded once for all of these archives.
        "--skip=download/empty", "--skip=essential/unlink",
        f'--setup-hook=mkdir -p {inside}; cp "{cache}"/*.deb {inside} || true',
        f'--essential-hook=cp --no-clobber {inside}/*.deb "{cache}" || true',
        f'--customize-hook=cp --no-clobber {inside}/*.deb "{cache}" || true',
        # Compiled during the installation, to other bytes each time.
        '--customize-hook=rm -r "$1"/usr/share/python3/debpython/__pycache__ || true',
        SUITE, archive,
    ]  # fmt: skip
    release.run(command, f"The Debian system {name} could not be made")
    stamp.write_text(made_from)
    return archive
