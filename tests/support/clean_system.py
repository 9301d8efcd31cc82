"""A Debian with nothing but a few packages, in which artefacts are installed as an administrator does it. As root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.installation import until

_PLAIN = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive")

#: Prepares the namespaces, which end with the command, and enters the system.
_ENTER = """
set -e
ip link set lo up
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
exec chroot "$1" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    LANG=C.UTF-8 sh -eu -c "$2"
"""

#: Starts `$TOCSIN serve`, and waits until it is ready.
SERVE = """
$TOCSIN serve > /tmp/out 2> /tmp/log &
for second in $(seq 240); do grep -q '^ready ' /tmp/out && break; sleep 0.5; done
grep '^ready ' /tmp/out || { cat /tmp/log; exit 1; }
"""

#: Posts a message, as $TOKEN's integration, and asks for the web page. Neither curl nor wget is there.
POST_AND_LOOK = """
python3 - <<'PYTHON'
import json, os, urllib.request
def ask(path, body=None):
    request = urllib.request.Request(f"http://localhost:8686{path}", body, {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=60).read().decode()
answer = json.loads(ask(f"/in/{os.environ['TOKEN']}", b'{"id": 7, "summary": "VPN 7 down", "status": "New"}'))
print(answer["status"])
print("page" if "<title>" in ask("/") else "no page")
PYTHON
"""


@dataclass(frozen=True, slots=True)
class CleanSystem:
    """The root folder of a system."""

    root: Path

    @classmethod
    def unpack(cls, archive: Path, root: Path) -> CleanSystem:
        root.mkdir(mode=0o755)
        subprocess.run(["tar", "--extract", f"--file={archive}", f"--directory={root}"], check=True)
        return cls(root)

    def run(self, script: str, seconds: float = 600.0) -> str:
        """Runs a script as root, in namespaces of its own: no route leads out, and all its processes end with it.
        Returns what it wrote; fails if a command fails."""
        namespaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
        done = subprocess.run(
            [*namespaces, "sh", "-c", _ENTER, "sh", self.root, script],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout


#: In a mount namespace that ends with it: a cgroup of its own, then systemd as process 1 of its own namespaces.
_BOOT = """
set -e
cd "$1"
mount --bind . .
mount -t tmpfs tmpfs run
mount -t cgroup2 cgroup2 run
mkdir -p "run/$2"
echo $$ > "run/$2/cgroup.procs"
umount run
exec unshare --pid --cgroup --uts --ipc --net --mount --fork --kill-child sh -ec '
mount -t proc proc "$1/proc"
mount -t sysfs sysfs "$1/sys"
mount -t tmpfs tmpfs "$1/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
mount -t tmpfs tmpfs "$1/run"
mount -t tmpfs tmpfs "$1/tmp"
mount -t tmpfs tmpfs "$1/dev"
for name in full null random tty urandom zero; do touch "$1/dev/$name"; mount --bind "/dev/$name" "$1/dev/$name"; done
mkdir "$1/dev/shm" "$1/dev/pts" "$1/dev/mqueue"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$1/dev/pts"
ln -s pts/ptmx "$1/dev/ptmx"
chmod 1777 "$1/dev/shm"
ln -s /proc/self/fd "$1/dev/fd"
exec chroot "$1" env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=null
' sh "$1"
"""

_REMOVE_CGROUP = """
mount -t tmpfs tmpfs /mnt
mount -t cgroup2 cgroup2 /mnt
[ ! -d "/mnt/$1" ] || find "/mnt/$1" -depth -type d -exec rmdir {} ';'
[ ! -d "/mnt/$1" ]
"""


@contextmanager
def booted(root: Path) -> Iterator[Callable[[str], str]]:
    """A system that systemd runs, without a network, and a function that runs a script in it as root. Whatever runs
    there ends with the block."""
    name = f"tocsin-test-{os.getpid()}"
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", _BOOT, "sh", root, name],
        cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def run(script: str) -> str:
        (systemd,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        inside = ["nsenter", f"--target={systemd}", "--all", "--root", "--wdns=/", "env", "-i", *_PLAIN, "sh", "-eu"]
        done = subprocess.run(
            [*inside, "-c", script], cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    def is_up() -> bool:
        try:
            return run("systemctl is-system-running || true").strip() in ("running", "degraded")
        except (AssertionError, ValueError):
            assert process.poll() is None
            return False

    try:
        until("systemd has started", is_up, 120)
        yield run
    finally:
        process.kill()
        process.wait()
        until(
            "its cgroup is gone",
            lambda: subprocess.run(["unshare", "--mount", "sh", "-c", _REMOVE_CGROUP, "sh", name]).returncode == 0,
            60,
        )
