"""The unprivileged system account under which root runs PostgreSQL: finds and creates it, and checks its access.

PostgreSQL refuses to run as root. Never changes permissions of existing files.
"""

from __future__ import annotations

import fcntl
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
from tocsin.core.reasons import ReasonType

_NO_PROGRAM = ReasonType("postgres.no_useradd", "Neither useradd nor adduser is installed.")
_NO_ACCOUNT = ReasonType(
    "postgres.no_account", "Root's PostgreSQL needs the system account {account}, and it could not be made. {problems}"
)
_MAKE_ACCOUNT = ReasonType(
    "postgres.make_account",
    "Create it manually (useradd --system {account}), start Tocsin as an ordinary user, or set "
    "TOCSIN_DATABASE_URL to a PostgreSQL server.",
)

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
    """Returns the account with this name, or None."""
    try:
        return _account(pwd.getpwnam(name))
    except KeyError:
        return None


def has_name(uid: int) -> bool:
    """Returns whether the system has a name for this uid."""
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
    """Returns the account, created if missing. Raises Permanent, with each program's message, if that fails."""
    account = find(name)
    if account is not None:
        return account
    errors: list[str] = []
    with exclusive():
        for recipe in recipes(name):
            account = find(name) or make(name, recipe, errors)
            if account is not None:
                return account
    problems = " ".join(errors) or _NO_PROGRAM()
    raise Permanent(
        _NO_ACCOUNT(account=name, problems=problems),
        remedy=_MAKE_ACCOUNT(account=name),
    )


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


def recipes(name: str) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Returns the methods of creating a system account without login, each as a list of commands: shadow-utils,
    Debian's adduser, BusyBox (https://busybox.net/downloads/BusyBox.html#adduser)."""
    return (
        (
            (
                "useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
                "--shell", "/usr/sbin/nologin", "--comment", "PostgreSQL of Tocsin", name,
            ),
        ),
        (
            (
                "adduser", "--system", "--group", "--no-create-home", "--home", "/nonexistent",
                "--shell", "/usr/sbin/nologin", name,
            ),
        ),
        (
            ("addgroup", "-S", name),
            ("adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", "/sbin/nologin", "-G", name, name),
        ),
    )  # fmt: skip


def make(name: str, recipe: tuple[tuple[str, ...], ...], errors: list[str]) -> SystemAccount | None:
    """Runs one method's commands. Returns the account, or None after appending the errors to `errors`."""
    for command in recipe:
        program = shutil.which(command[0], path=_SEARCH_PATH)
        if program is None:
            return None
        # A fixed environment, so that the result does not depend on the caller's and messages are not translated.
        completed = subprocess.run(  # noqa: S603
            [program, *command[1:]],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd="/",
            env={"PATH": _SEARCH_PATH, "LC_ALL": "C"},
        )  # fmt: skip
        if completed.returncode != 0:
            errors.append(f"{command[0]}: {' '.join(completed.stderr.split()) or f'exit code {completed.returncode}'}.")
    # Another process may have created it at the same moment, so only its existence counts.
    return find(name)


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
