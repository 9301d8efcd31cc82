"""The unprivileged system account under which root runs PostgreSQL: found, made if missing, and what it can reach.

PostgreSQL refuses to run as root. Nothing here changes a permission of anything that exists.
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

ACCOUNT_NAME = "tocsin-postgres"

_SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


class RunAs(TypedDict, total=False):
    """The arguments of `subprocess` that change who a program runs as."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class SystemAccount:
    """A system account, by its numbers."""

    name: str
    uid: int
    gid: int

    def run_as(self) -> RunAs:
        return RunAs(user=self.uid, group=self.gid, extra_groups=[])


def find(name: str = ACCOUNT_NAME) -> SystemAccount | None:
    """The account of that name on this system, or None."""
    try:
        return _account(pwd.getpwnam(name))
    except KeyError:
        return None


def of_uid(uid: int) -> SystemAccount:
    """The account with that number, whether or not the system has a name for it."""
    try:
        return _account(pwd.getpwuid(uid))
    except KeyError:
        return SystemAccount(name=str(uid), uid=uid, gid=uid)


def find_or_make(name: str = ACCOUNT_NAME) -> SystemAccount:
    """The account, made if missing. Raises Permanent, with what each program said, where it cannot be made."""
    account = find(name)
    if account is not None:
        return account
    said: list[str] = []
    with alone():
        for recipe in recipes(name):
            account = find(name) or make(name, recipe, said)
            if account is not None:
                return account
    reasons = " ".join(said) or "Neither useradd nor adduser is there."
    raise Permanent(
        f"Root's PostgreSQL needs the system account {name}, and it could not be made. {reasons}",
        remedy=f"Make it by hand (useradd --system {name}), start Tocsin as an ordinary user, "
        "or set TOCSIN_DATABASE_URL to a PostgreSQL server.",
    )


@contextmanager
def alone() -> Iterator[None]:
    """One process at a time. Of two useradd at once (shadow-utils 4.17) both succeed, and the number that the first
    was told is nobody's a moment later. The folder is only held, never written; the kernel frees it on kill -9.
    """
    folder = os.open("/etc", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def recipes(name: str) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """The ways to make a system account that nobody can sign in to, each as the commands it takes: shadow-utils,
    Debian's adduser, BusyBox (https://busybox.net/downloads/BusyBox.html#adduser).
    """
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


def make(name: str, recipe: tuple[tuple[str, ...], ...], said: list[str]) -> SystemAccount | None:
    """Follows one recipe. Returns the account, or None and what the programs said against it in `said`."""
    for command in recipe:
        program = shutil.which(command[0], path=_SEARCH_PATH)
        if program is None:
            return None
        # The environment decides nothing here, and the program's words are shown as they are.
        done = subprocess.run(  # noqa: S603
            [program, *command[1:]],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd="/",
            env={"PATH": _SEARCH_PATH, "LC_ALL": "C"},
        )  # fmt: skip
        if done.returncode != 0:
            said.append(f"{command[0]}: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}.")
    # Another process may have made it in the same moment: what counts is that it is there.
    return find(name)


def can_enter(account: SystemAccount | None, folder: Path) -> bool:
    """Whether the account may walk through `folder` and all its parents, by their mode bits.

    Folders that do not exist yet are taken as open, None as an account that owns nothing and is in no group.
    """
    existing = [part for part in (folder, *folder.parents) if part.exists()]
    return all(_allows(account, part.stat(), stat.S_IXOTH) for part in existing)


def can_use(account: SystemAccount | None, file: Path) -> bool:
    """Whether the account may reach the existing `file` and read it, and run it if its owner may."""
    status = file.stat()
    wanted = stat.S_IROTH | (stat.S_IXOTH if status.st_mode & stat.S_IXUSR else 0)
    return can_enter(account, file.parent) and _allows(account, status, wanted)


def _account(entry: pwd.struct_passwd) -> SystemAccount:
    return SystemAccount(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def _allows(account: SystemAccount | None, status: os.stat_result, wanted_of_others: int) -> bool:
    """`wanted_of_others` is in the place of the "others" bits. The owner's bits alone count for the owner."""
    shift = 0
    if account is not None:
        if status.st_uid == account.uid:
            shift = 6
        elif status.st_gid == account.gid:
            shift = 3
    wanted = wanted_of_others << shift
    return status.st_mode & wanted == wanted
