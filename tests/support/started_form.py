"""One form of the installation on a data directory that a test prepares: the image's container, the .deb's service."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.prove.bench import free_port
from tests.support.installation import until
from tests.support.linux_service import service_of
from tests.support.podman import Podman
from tests.support.upgrade_walk import System, is_ready

#: A next version, of whose migrations the last fails, and one of whose none does.
_NEXT = Path(__file__).resolve().parents[1] / "upgrade"
_IN_FORM = "/opt/next"

#: Seconds that a node may take to give up, on a machine with other work.
_MAX_SECONDS = 300


class StartedForm(Protocol):
    #: The data directory on this machine, its path as the node names it, and its owner.
    data: Path
    shown: str
    uid: int

    def end(self, environment: Mapping[str, str], *, is_read_only: bool = False) -> tuple[int, str]:
        """Starts a node that is expected to end by itself. Returns its exit status and what it wrote."""

    def use(self) -> None:
        """Starts a node, and stops it once it is ready."""


@dataclass
class ImageForm:
    podman: Podman
    image: str
    data: Path
    shown: str = "/data"
    uid: int = 10001

    def end(self, environment: Mapping[str, str], *, is_read_only: bool = False) -> tuple[int, str]:
        mounts = (f"{self.data}:/data{':ro' if is_read_only else ''}", f"{_NEXT}:{_IN_FORM}/tests/upgrade:ro")
        container = self.podman.run(self.image, mounts=mounts, environment=environment)
        status = int(self.podman.call("wait", container.identity).stdout)
        return status, container.logs()

    def use(self) -> None:
        container = self.podman.run(self.image, "serve", "--port", str(free_port()), mounts=(f"{self.data}:/data",))
        container.wait_until_ready()
        assert container.stop() == 0


@dataclass
class DebForm:
    system: System
    shown: str = "/var/lib/tocsin"

    def __post_init__(self) -> None:
        self.data = self.system.root / self.shown[1:]
        self.uid = self.data.stat().st_uid
        self._log = self.system.root.parent / "log"
        target = self.system.root / _IN_FORM[1:] / "tests/upgrade"
        shutil.copytree(_NEXT, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)

    def end(self, environment: Mapping[str, str], *, is_read_only: bool = False) -> tuple[int, str]:
        self._log.write_text("")
        with _read_only(self.data) if is_read_only else _as_it_is():
            process = service_of(self.system, self._log, environment)(str(free_port()))
            status = process.wait(_MAX_SECONDS)
        return status, self._log.read_text()

    def use(self) -> None:
        port = free_port()
        process = service_of(self.system, self._log)(str(port))
        url = f"http://127.0.0.1:{port}"
        until("Tocsin is ready", lambda: process.poll() is not None or is_ready(url), _MAX_SECONDS)
        process.send_signal(signal.SIGTERM)
        assert process.wait(_MAX_SECONDS) == 0, self._log.read_text()


def next_version(settings: str) -> dict[str, str]:
    """The variables of a next version: `next`, or `broken`, whose upgrade stops."""
    return {"PYTHONPATH": _IN_FORM, "DJANGO_SETTINGS_MODULE": f"tests.upgrade.{settings}_settings"}


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    _mount("--bind", folder, folder)
    try:
        _mount("--options", "remount,bind,ro", folder)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def small_disk(folder: Path, kilobytes: int, uid: int) -> Iterator[None]:
    """A disk of this size on the folder."""
    options = f"size={kilobytes}k,uid={uid},gid={uid},mode=0711"
    _mount("--types", "tmpfs", "--options", options, "tmpfs", folder)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)
