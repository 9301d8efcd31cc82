"""An upgrade with pages on their way, whatever the form of the installation: none is lost, none is sent twice."""

from __future__ import annotations

import re
import signal
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import tocsin
from tests.doubles.smtp import SmtpDouble
from tests.prove.bench import free_port
from tests.support.installation import HALO_TOKEN, ask, ticket, until

VERSION = tocsin.__version__
NEXT_VERSION = VERSION.rpartition(".")[0] + ".99"

PLAIN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}

#: Starts a node, gives its address once it is ready, and ends it.
type Serve = Callable[[], AbstractContextManager[str]]


@dataclass(frozen=True)
class System:
    """A file system of its own. Commands run in it with nothing of this machine's environment."""

    root: Path

    def command(self, *words: str) -> list[str]:
        mounted = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
        return ["unshare", "--mount", "sh", "-c", mounted, str(self.root), *words]

    def run(self, *words: str, typed: str = "", variables: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            self.command(*words), env=PLAIN | (dict(variables) if variables else {}), cwd="/root", input=typed,
            text=True, capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def upgrade_with_pages(
    old: Serve, new: Serve, mails: SmtpDouble, *, prepare: Callable[[str], None], upgrade: Callable[[], None]
) -> None:
    """`prepare` configures the node at that address; `upgrade` replaces the program while it runs."""
    with old() as url:
        prepare(url)
        first = post(url, 1)
        until("Alice is paged", lambda: pages(mails) == [first], 180)
        # The mail server has this page, and its answer is on the way while everything is replaced.
        mails.takes = 5
        second = post(url, 2)
        until("the second page is under way", lambda: pages(mails) == [first, second], 180)
        upgrade()
        mails.takes = 5
        third = post(url, 3)
        until("the third page is under way", lambda: len(pages(mails)) == 3, 180)
        fourth = post(url, 4)
    mails.takes = 0
    with new() as url:
        until("each alert has its page", lambda: len(pages(mails)) >= 4, 180)
        fifth = post(url, 5)
        until("the new version pages", lambda: fifth in pages(mails), 180)
        assert pages(mails) == [first, second, third, fourth, fifth]


def version_of(url: str) -> str:
    text = ask("GET", f"{url}/metrics", headers={"Host": "localhost"}).text
    match = re.search(r'tocsin_build_info\{version="([^"]+)"\}', text)
    assert match is not None
    return match[1]


@contextmanager
def started(start: Callable[[str], subprocess.Popen[bytes]], version: str) -> Iterator[str]:
    """A node of that version on a free port, which `start` is given. Gives its address once it is ready; ends it."""
    port = free_port()
    process = start(str(port))
    url = f"http://127.0.0.1:{port}"
    try:
        until("Tocsin is ready", lambda: process.poll() is not None or is_ready(url), 300)
        assert process.poll() is None
        assert version_of(url) == version
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0


def is_ready(url: str) -> bool:
    try:
        return ask("GET", f"{url}/readyz").status == 200
    except OSError:
        return False


def post(url: str, number: int) -> int:
    answer = ask("POST", f"{url}/in/{HALO_TOKEN}", ticket(number))
    assert answer.status == 200, answer.text
    return int(answer.json()["alert_id"])


def pages(mails: SmtpDouble) -> list[int]:
    """The alerts about which Alice was paged, one for each mail."""
    found = [re.search(r"\(Tocsin #(\d+)\)", mail.subject) for mail in mails.mails if mail.to.startswith("alice@")]
    return sorted(int(match[1]) for match in found if match)


def next_wheel(wheel: Path, folder: Path) -> Path:
    """The same package, one version later."""
    target = folder / wheel.name.replace(VERSION, NEXT_VERSION)
    info = f"tocsin-{VERSION}.dist-info"
    renamed = (f"{info}/METADATA", f"{info}/RECORD", "tocsin/__init__.py")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for name in old.namelist():
            content = old.read(name)
            if name in renamed:
                content = content.replace(VERSION.encode(), NEXT_VERSION.encode())
            new.writestr(name.replace(info, info.replace(VERSION, NEXT_VERSION)), content)
    return target
