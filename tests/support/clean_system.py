"""A Debian with nothing but a few packages, in which artefacts are installed as an administrator does it. As root."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

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
