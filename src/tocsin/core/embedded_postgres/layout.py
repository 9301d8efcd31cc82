"""The directories of the embedded PostgreSQL, with their owners and permissions.

Sets permissions only on Tocsin's own directories and inside them, never on a parent.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tocsin.core.embedded_postgres import system_user
from tocsin.core.embedded_postgres.system_user import SystemAccount
from tocsin.core.errors import Permanent
from tocsin.core.reasons import ReasonType

_CANNOT_ENTER = ReasonType(
    "data_directory.cannot_enter", "The account {account}, under which root's PostgreSQL runs, cannot enter {folder}."
)
_OPEN_PARENTS = ReasonType(
    "data_directory.open_parents",
    "Open the folders above it for passing through (chmod o+x), or move {folder} elsewhere.",
)
_UNUSABLE = ReasonType("data_directory.unusable", "Tocsin cannot use {path} as (part of) its data directory: {error}.")
_CHOOSE_USABLE = ReasonType(
    "data_directory.choose_usable",
    "Choose another with --data-dir or TOCSIN_DATA_DIR, or give it to the user that runs Tocsin.",
)
_NOT_A_FOLDER = ReasonType("data_directory.not_a_folder", "The data directory {folder} is not a folder.")
_CHOOSE_ANOTHER = ReasonType("data_directory.choose_another", "Choose another with --data-dir.")
_SHARED = ReasonType(
    "data_directory.shared", "{folder} is shared by the whole system and cannot be Tocsin's data directory."
)
_CHOOSE_SUBFOLDER = ReasonType("data_directory.choose_subfolder", "Choose a folder in it, such as {folder}.")
_OTHER_OWNER = ReasonType("data_directory.other_owner", "The data directory {folder} belongs to {owner}.")
_RUN_AS_OWNER = ReasonType(
    "data_directory.run_as_owner",
    "Give it to the user that runs Tocsin (chown -R {user} {folder}), run Tocsin as {owner}, or choose another with "
    "--data-dir.",
)
_IN_THE_WAY = ReasonType("data_directory.in_the_way", "{folder} is in the way: it is not a folder of {owner}.")
_MOVE_AWAY = ReasonType("data_directory.move_away", "Move it away.")

#: Root's default data directory. It also holds PostgreSQL's directory if the account cannot enter the chosen one.
ROOT_DATA_DIR = Path("/var/lib/tocsin")

#: Maximum path length of a Unix socket on Linux, without the trailing NUL (unix(7), sun_path).
MAX_SOCKET_PATH_BYTES = 107
SOCKET_NAME = ".s.PGSQL.5432"

#: In PostgreSQL's directory; locked by every process of the server.
SERVER_LOCK = "server.lock"

_DIRECTORY_MODE = 0o711
_PRIVATE_MODE = 0o700


@dataclass(frozen=True, slots=True)
class ClusterPaths:
    """The directories and lock files of one embedded PostgreSQL, and the account it runs under (None: this user)."""

    data_dir: Path
    location: Path
    run: Path
    account: SystemAccount | None

    @property
    def data(self) -> Path:
        return self.location / "data"

    @property
    def copies(self) -> Path:
        return self.location / "bin"

    @property
    def users_lock(self) -> Path:
        """Locked shared by every process that uses the server."""
        return self.location / "users.lock"

    @property
    def change_lock(self) -> Path:
        """Locked by the process that starts or stops the server."""
        return self.location / "change.lock"

    @property
    def server_lock(self) -> Path:
        """Locked by the server itself."""
        return self.location / SERVER_LOCK

    @property
    def log(self) -> Path:
        return self.location / "start.log"


def locate(data_dir: Path, major: int) -> Path:
    """Returns PostgreSQL's directory for a data directory, without changing anything.

    It is `postgres/<major>` in the data directory. For root it is in /var/lib/tocsin/<hash of the path> if the account
    cannot enter a parent of the data directory. An existing database stays where it is.
    """
    data_dir = resolve_path(data_dir)
    inside = data_dir / "postgres" / str(major)
    if os.geteuid() != 0 or (inside / "data").exists():
        return inside
    elsewhere = separate_location(data_dir) / "postgres" / str(major)
    if (elsewhere / "data").exists():
        return elsewhere
    return inside if system_user.can_enter(system_user.find(), data_dir.parent) else elsewhere


def prepare(data_dir: Path, major: int) -> ClusterPaths:
    """Creates the directories and sets owners and permissions, once `preconditions.check` has nothing against it.
    Raises Permanent, naming the path, on failure."""
    data_dir = resolve_path(data_dir)
    with path_named(data_dir):
        account = _account(locate(data_dir, major))
        _make_directory(data_dir)
        location = locate(data_dir, major)
        for folder in reversed([location, *_up_to(location, data_dir)]):
            _make_directory(folder)
        if account is not None and not system_user.can_enter(account, location):
            raise Permanent(
                _CANNOT_ENTER(account=account.name, folder=str(location)),
                remedy=_OPEN_PARENTS(folder=str(data_dir)),
            )
        run = _socket_folder(data_dir, location, account)
        _make_private(run, account)
        if (location / "data").exists():
            _make_private(location / "data", account)
    return ClusterPaths(data_dir=data_dir, location=location, run=run, account=account)


@contextmanager
def path_named(data_dir: Path) -> Iterator[None]:
    """Raises Permanent, naming the path, instead of OSError."""
    try:
        yield
    except OSError as error:
        raise Permanent(
            _UNUSABLE(path=str(error.filename or data_dir), error=error.strerror or str(error)),
            remedy=_CHOOSE_USABLE(),
        ) from error


def separate_location(data_dir: Path) -> Path:
    """Returns the directory for files that cannot be inside the data directory: one for each real path."""
    return ROOT_DATA_DIR / hashlib.sha256(os.fsencode(resolve_path(data_dir))).hexdigest()[:16]


def other_majors(data_dir: Path, location: Path) -> list[Path]:
    """Returns the PostgreSQL data directories of other major versions, inside or outside the data directory."""
    homes = (data_dir / "postgres", separate_location(data_dir) / "postgres")
    versions = [file for home in homes for file in home.glob("*/data/PG_VERSION")]
    return sorted(file.parent for file in versions if file.parent.parent.name != location.name)


def open_private(path: Path, flags: int = 0) -> int:
    """Opens a file for writing with mode 0600, owned by the owner of its directory, and creates it if missing.

    Symbolic links are rejected, because the directory may belong to an ordinary user while this process runs as root.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | flags, 0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def is_locked(path: Path) -> bool:
    """Returns whether a process holds the file's lock exclusively."""
    try:
        lock = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def resolve_path(path: Path) -> Path:
    """Resolves symbolic links, so that one directory has one hash and one lock under all its names."""
    return Path(os.path.realpath(path.expanduser()))


def _account(location: Path) -> SystemAccount | None:
    """Returns the account for the server. A database created by an ordinary user stays that user's, even under root."""
    if os.geteuid() != 0:
        return None
    data = location / "data"
    if data.exists() and (owner := data.stat().st_uid) != 0:
        return system_user.account_by_uid(owner)
    return system_user.find_or_make()


def _up_to(location: Path, data_dir: Path) -> list[Path]:
    """Returns Tocsin's own directories above `location`, innermost first."""
    top = data_dir if location.is_relative_to(data_dir) else ROOT_DATA_DIR
    return [parent for parent in location.parents if parent.is_relative_to(top)]


def reject_shared_folder(data_dir: Path) -> None:
    """Raises Permanent for a directory of the whole system, so that a mistyped path never changes its permissions."""
    if not data_dir.exists():
        return
    status = data_dir.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise Permanent(_NOT_A_FOLDER(folder=str(data_dir)), remedy=_CHOOSE_ANOTHER())
    if data_dir == Path(data_dir.anchor) or status.st_mode & stat.S_ISVTX:
        raise Permanent(
            _SHARED(folder=str(data_dir)),
            remedy=_CHOOSE_SUBFOLDER(folder=str(data_dir / "tocsin")),
        )
    if os.geteuid() not in (0, status.st_uid):
        raise Permanent(
            _OTHER_OWNER(folder=str(data_dir), owner=_name(status.st_uid)),
            remedy=_RUN_AS_OWNER(user=str(os.geteuid()), folder=str(data_dir), owner=_name(status.st_uid)),
        )


def _make_directory(folder: Path) -> None:
    """Creates the directory with mode 0711: others can pass through, but not list it. Missing parents get 0755."""
    for parent in reversed(folder.parents):
        if not parent.exists():
            parent.mkdir(exist_ok=True)
            parent.chmod(0o755)
    folder.mkdir(exist_ok=True)
    if stat.S_IMODE(folder.stat().st_mode) != _DIRECTORY_MODE:
        folder.chmod(_DIRECTORY_MODE)


def _make_private(folder: Path, account: SystemAccount | None) -> None:
    """Creates the directory with mode 0700 for the account. Raises Permanent if another user's is in its place."""
    owner = os.geteuid() if account is None else account.uid
    folder.parent.mkdir(exist_ok=True)
    try:
        folder.mkdir(mode=_PRIVATE_MODE)
    except FileExistsError:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (owner, 0):
            raise Permanent(_IN_THE_WAY(folder=str(folder), owner=_name(owner)), remedy=_MOVE_AWAY()) from None
    folder.chmod(_PRIVATE_MODE)
    if account is not None and folder.stat().st_uid != account.uid:
        os.chown(folder, account.uid, account.gid)


def _socket_folder(data_dir: Path, location: Path, account: SystemAccount | None) -> Path:
    """Returns `run` beside the data, or a separate short path if a socket there is unreachable: its path would be too
    long, or contains a comma, which separates hosts in libpq's `host`."""
    inside = location / "run"
    if len(os.fsencode(inside / SOCKET_NAME)) <= MAX_SOCKET_PATH_BYTES and "," not in str(inside):
        return inside
    elsewhere = separate_location(data_dir)
    if os.geteuid() == 0 and account is not None and account.name == system_user.ACCOUNT_NAME:
        for folder in (ROOT_DATA_DIR, elsewhere):
            _make_directory(folder)
        return elsewhere / "run"
    owner = os.geteuid() if account is None else account.uid
    return Path(f"/tmp/tocsin-{owner}-{elsewhere.name}")  # noqa: S108  made 0700, and refused if it is another's


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
