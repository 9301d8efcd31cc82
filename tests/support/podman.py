"""Containers of the image that `make dist` built, in a storage of their own. As root; no daemon, no registry."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

#: Containers may do less than root here, and the kernel may forbid to raise a limit.
_CONFIGURATION = '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=90000:90000"]\n'

#: As administrators are told to run it.
CONFINED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")

_DOCKER = """#!/bin/sh
[ "$1" = compose ] || exec {folder}/podman "$@"
shift
exec env PYTHONPATH={tools} {python} -m podman_compose --podman-path {folder}/podman "$@"
"""
#: Health checks are systemd's work: a caller that waits for one starts them.
_PODMAN = """#!/bin/sh
case "$*" in
wait\\ *--condition=healthy*)
    for container; do case $container in wait | --*) continue ;; esac
        for second in $(seq 240); do
            ! {podman} healthcheck run "$container" > /dev/null 2>&1 || continue 2
            sleep 1
        done
        exit 1
    done ;;
esac
exec {podman} "$@"
"""


@contextmanager
def own_network() -> Iterator[None]:
    """A network of this thread's and of what it starts meanwhile: bridges and published ports are nobody else's."""
    with Path("/proc/thread-self/ns/net").open() as before:
        os.unshare(os.CLONE_NEWNET)
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            _end_name_server()
            os.setns(before.fileno(), os.CLONE_NEWNET)


def _end_name_server() -> None:
    """Ends Podman's name server of this network and forgets its names. They stay if a container could not be removed,
    and a machine has one server for all networks: containers of the next network would get no names."""
    folder = Path("/run/containers/networks/aardvark-dns")
    with suppress(FileNotFoundError):
        pid = int((folder / "aardvark.pid").read_text())
        if Path(f"/proc/{pid}/ns/net").readlink() == Path("/proc/thread-self/ns/net").readlink():
            os.kill(pid, signal.SIGTERM)
            shutil.rmtree(folder)


@contextmanager
def preferred_cgroup() -> Iterator[str]:
    """A control group whose containers get the processors before other work. All containers of the usual one get no
    more than one process outside of it, so that a start there takes as long as the machine is busy."""
    name, mounted = f"tocsin-test-{os.getpid()}", Path("/sys/fs/cgroup")
    # Of control groups of the first version, or of the second.
    folder, file, share = (mounted / "cpu", "cpu.shares", "262144")
    if not folder.is_dir():
        folder, file, share = (mounted, "cpu.weight", "10000")
    (folder / name).mkdir()
    try:
        with suppress(OSError):
            (folder / name / file).write_text(share)
        yield f"/{name}"
    finally:
        # A runtime leaves the last processes of a container to the kernel.
        subprocess.run(["find", mounted, "-depth", "-type", "d", "-path", f"*/{name}*", "-exec", "rmdir", "{}", "+"])


@dataclass
class Podman:
    """Podman with its storage in one folder."""

    home: Path
    driver: str
    containers: list[Container] = field(default_factory=list)
    program: str = field(default_factory=lambda: shutil.which("podman") or "podman")

    def command(self, *arguments: str | Path) -> list[str | Path]:
        return [
            self.program, f"--storage-driver={self.driver}", f"--root={self.home}/root", f"--runroot={self.home}/run",
            f"--network-config-dir={self.home}/networks", "--cgroup-manager=cgroupfs", "--runtime=runc", *arguments,
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        configuration = self.home / "containers.conf"
        configuration.write_text(_CONFIGURATION)
        own = {"CONTAINERS_CONF_OVERRIDE": str(configuration), "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
        return {**os.environ, **own}

    def call(self, *arguments: str | Path, check: bool = True, typed: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments), input=typed, capture_output=True, text=True, check=False, timeout=600,
            env=self.environment(),
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done

    def shell(self, *lines: str, folder: Path, tools: Path, typed: str = "") -> str:
        """Runs commands of the documentation in a folder: `docker` is Podman, and `docker compose` the one of Podman in
        the folder `tools`. Returns what they wrote; fails if one fails."""
        programs = self.home / "bin"
        programs.mkdir(exist_ok=True)
        podman = " ".join(map(str, self.command()))
        for name, text in (("docker", _DOCKER), ("podman", _PODMAN)):
            script = text.format(podman=podman, tools=tools, python=sys.executable, folder=programs)
            (programs / name).write_text(script)
            (programs / name).chmod(0o755)
        done = subprocess.run(
            ["sh", "-euc", "\n".join(lines)], cwd=folder, capture_output=True, text=True, timeout=900, input=typed,
            env={**self.environment(), "PATH": f"{programs}:{os.environ['PATH']}"},
        )  # fmt: skip
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout + done.stderr

    def run(
        self,
        image: str,
        *arguments: str,
        mounts: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        user: str = "",
        cgroup: str = "",
    ) -> Container:
        """Starts a container on this machine's own network, confined as the documents say. Podman makes no name for a
        `user` whom the image does not know, as other runtimes."""
        variables = [f"--env={name}={value}" for name, value in (environment or {}).items()]
        options = [
            *CONFINED,
            "--network=host",
            *(f"--volume={mount}" for mount in mounts),
            *variables,
            *([f"--user={user}", "--passwd=false"] if user else []),
            *([f"--cgroup-parent={cgroup}"] if cgroup else []),
        ]
        identity = self.call("run", "--detach", *options, image, *arguments).stdout.strip()
        self.containers.append(Container(self, identity))
        return self.containers[-1]

    def end(self) -> None:
        """Removes every container and the storage."""
        try:
            self.call("rm", "--all", "--force", "--volumes", "--time=20", check=False)
            self.call("image", "unmount", "--all", "--force", check=False)
        finally:
            # Podman leaves it mounted.
            subprocess.run(["umount", self.home / "root" / self.driver], capture_output=True)
            shutil.rmtree(self.home, ignore_errors=True)


@dataclass
class Container:
    """One container, running or ended."""

    podman: Podman
    identity: str

    def state(self, what: str) -> str:
        """A field of podman's state, such as Status or ExitCode."""
        return self.podman.call("inspect", self.identity, f"--format={{{{.State.{what}}}}}").stdout.strip()

    def logs(self, *options: str) -> str:
        done = self.podman.call("logs", *options, self.identity)
        return done.stdout + done.stderr

    def wait_until_ready(self, seconds: float = 120.0) -> float:
        """The seconds from its start to its line `ready`."""

        started = _seconds(self.state("StartedAt"))
        deadline = time.monotonic() + seconds
        while True:
            lines = [line.partition(" ") for line in self.logs("--timestamps").splitlines()]
            moments = [_seconds(moment) for moment, _, text in lines if text.startswith("ready ")]
            if moments and moments[-1] > started:
                return moments[-1] - started
            assert self.state("Status") == "running", self.logs()
            assert time.monotonic() < deadline, f"not ready:\n{self.logs()}"
            time.sleep(0.3)

    def execute(self, *words: str, typed: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command in the container."""
        return self.podman.call("exec", "--interactive", self.identity, *words, check=check, typed=typed)

    def kill(self) -> None:
        """kill -9 of everything in it."""
        self.podman.call("kill", "--signal=KILL", self.identity)
        self.podman.call("wait", self.identity)

    def start(self) -> None:
        self.podman.call("start", self.identity)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.podman.call("stop", "--time=60", self.identity)
        return int(self.state("ExitCode"))


def _seconds(moment: str) -> float:
    """`2026-11-29T09:24:20.009997906Z` or `2026-11-29 09:24:05.848611307 +0000 UTC` since 1970."""
    text = moment.removesuffix(" UTC").replace(" +0000", "+00:00").replace("Z", "+00:00")
    whole, _, rest = text.partition(".")
    fraction = rest[: -len("+00:00")][:6]
    return datetime.fromisoformat(f"{whole}.{fraction.ljust(6, '0')}+00:00").timestamp()
