"""Builds the wheel, installs it into an environment with nothing else than its locked dependencies, and starts it once.

What is proved: the wheel holds every file of the package, the static ones included; `tocsin serve` comes up on an
empty data directory with the embedded PostgreSQL, answers, and leaves on SIGTERM with exit code 0.
"""

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path
from urllib.parse import urljoin

import bring

SOURCE = bring.ROOT / "src"
READY_WITHIN = 60.0  # seconds; the first start makes a database
GONE_WITHIN = 40.0


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="tocsin-wheel-"))
    # As root the embedded PostgreSQL runs under an account of its own, which must be able to walk in.
    folder.chmod(0o711)
    try:
        wheel = build(folder)
        compare(wheel)
        start(install(wheel, folder), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"wheel: {wheel.name} holds the whole package, starts, answers and stops")


def build(folder: Path) -> Path:
    quietly([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, bring.ROOT])
    return next(folder.glob("*.whl"))


def compare(wheel: Path) -> None:
    """Exits if a file of the package is not in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        there = set(archive.namelist())
    files = (path for path in (SOURCE / "tocsin").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    lacking = sorted({path.relative_to(SOURCE).as_posix() for path in files} - there)
    if lacking:
        sys.exit(f"The wheel lacks {len(lacking)} files: {', '.join(lacking[:10])}")
    if not any("/static/vendor/tabler/" in name for name in there):
        sys.exit("The wheel lacks the browser's parts; `make setup` builds them.")


def install(wheel: Path, folder: Path) -> Path:
    """Path of the `tocsin` command in a new environment."""
    environment = folder / "environment"
    uv = bring.uv()
    quietly([uv, "venv", "--python", sys.executable, environment])
    into = ["--python", environment / "bin" / "python"]
    quietly([uv, "pip", "install", *into, "--require-hashes", "-r", bring.REQUIREMENTS / "runtime.txt"])
    quietly([uv, "pip", "install", *into, "--no-deps", wheel])
    quietly([uv, "pip", "check", *into])
    return environment / "bin" / "tocsin"


def start(tocsin: Path, folder: Path) -> None:
    """Serves from an empty data directory until it has answered, then stops it."""
    log = folder / "log"
    data = folder / "data"
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}
    command = [tocsin, "serve", "--port", str(free_port()), "--data-dir", data]
    with log.open("w") as errors:
        server = subprocess.Popen(
            command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        look_around(wait_until_ready(server))
        server.send_signal(signal.SIGTERM)
        code = server.wait(GONE_WITHIN)
        if code != 0:
            raise Failed(f"`tocsin serve` ended with exit code {code} after SIGTERM, not 0")
        if list(data.rglob("postmaster.pid")):
            raise Failed("The embedded PostgreSQL still runs after `tocsin serve` has ended")
    except (Failed, OSError, subprocess.TimeoutExpired) as problem:
        sys.exit(f"{problem}\nIt wrote:\n{log.read_text()[-4000:]}")
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


class Failed(Exception):
    """The server did not do what it must; the text says what."""


def wait_until_ready(server: subprocess.Popen[str]) -> str:
    """The address that the server names in its line `ready http://…`."""
    assert server.stdout is not None
    deadline = time.monotonic() + READY_WITHIN
    while select.select([server.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
        line = server.stdout.readline()
        if not line:
            raise Failed(f"`tocsin serve` ended with exit code {server.wait()} before it was ready")
        word, _, address = line.strip().partition(" ")
        if word == "ready":
            return address
    raise Failed(f"`tocsin serve` was not ready within {READY_WITHIN:.0f} s")


def look_around(address: str) -> None:
    """Asks for health, the first page, and every style and script that this page names."""
    health = fetch(f"{address}/healthz")
    if health.strip() != "ok":
        raise Failed(f"/healthz answered {health[:200]!r}")
    page = fetch(f"{address}/")
    parts = re.findall(r'<(?:link|script)\b[^>]*?(?:href|src)="([^"]+\.(?:css|js))[^"]*"', page)
    if not parts:
        raise Failed("the first page names no style and no script")
    for part in parts:
        fetch(urljoin(address, part))


def fetch(address: str) -> str:
    """The body of a 2xx answer; anything else raises an OSError."""
    with urllib.request.urlopen(address, timeout=20) as answer:
        return answer.read().decode("utf-8")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def quietly(command: list[str | Path]) -> None:
    """Runs it; shows what it said, and exits, only if it failed."""
    answer = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if answer.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{answer.stdout}")


if __name__ == "__main__":
    main()
