"""The pages about installation, tried word by word from the artefacts alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import bring
import pytest
from builders import python, release

from tests.support.clean_system import POST_AND_LOOK, SERVE, CleanSystem
from tests.support.install_pages import commands
from tests.support.installation import CONFIGURATION, HALO_TOKEN
from tests.support.podman import Podman

pytestmark = pytest.mark.long

VERSION = release.version()

#: A system that reaches no index: pip and uv find the same packages in a folder. Root needs no sudo.
_OFFLINE = """
export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
export UV_OFFLINE=1 UV_NO_INDEX=1 UV_FIND_LINKS=/wheels PATH="$PATH:/root/.local/bin"
sudo() { "$@"; }
cd /root
"""


@pytest.fixture
def wheels(clean_system: CleanSystem, artefact: Callable[[str], list[Path]]) -> CleanSystem:
    """A clean system with the wheels, the constraints and uv."""
    context = artefact("context")[0]
    shutil.copytree(context / "wheels", clean_system.root / "wheels")
    shutil.copy(context / "constraints.txt", clean_system.root / "root" / python.constraints_name(VERSION))
    shutil.copy(bring.uv(), clean_system.root / "usr" / "local" / "bin" / "uv")
    (clean_system.root / "root" / "tocsin.yaml").write_text(CONFIGURATION)
    return clean_system


@pytest.mark.parametrize("heading", ["Install and start", "With checked hashes"])
def test_pip_page_installs_and_serves(wheels: CleanSystem, heading: str) -> None:
    *install, serve = commands("pip", heading, VERSION)[0]
    tocsin = serve.removesuffix(" serve")
    said = wheels.run(
        "\n".join([_OFFLINE, *install, f"export TOKEN={HALO_TOKEN} TOCSIN={tocsin}", SERVE])
        + f"$TOCSIN apply /root/tocsin.yaml\n{POST_AND_LOOK}$TOCSIN --version\n"
    )
    assert said.splitlines()[-3:] == ["Mapped Opened", "page", f"tocsin {VERSION}"]


#: Docker's command, carried out by Podman, on the network of the test.
_DOCKER = """#!/bin/sh
if [ "$1" = run ]; then
    shift
    set -- run --network=host --ulimit=nproc=90000:90000 "$@"
fi
exec {podman} "$@"
"""


def test_container_page_runs_and_backs_up(
    podman: Podman, artefact: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "docker").write_text(_DOCKER.format(podman=" ".join(map(str, podman.command()))))
    (programs / "docker").chmod(0o755)
    shutil.copy(artefact("image")[0], tmp_path)
    backups = tmp_path / "backup"
    backups.mkdir()
    (tmp_path / "tocsin.yaml").write_text(CONFIGURATION)
    start, user = commands("container", "Start", VERSION)
    backup = [line.replace("/backup/", f"{backups}/") for line in commands("container", "Backup", VERSION)[0]]
    script = [
        "set -eu; ip link set lo up; trap 'docker rm --force --time 20 tocsin' EXIT",
        *start,
        "for second in $(seq 240); do docker logs tocsin 2>&1 | grep -q '^ready ' && break; sleep 0.5; done",
        "docker logs tocsin 2>&1 | grep 'Make the first administrator: http://localhost:8686/setup/'",
        f"echo 'a long enough passphrase 7' | {user[0]}",
        "docker cp tocsin.yaml tocsin:/data/tocsin.yaml; docker exec tocsin tocsin apply /data/tocsin.yaml",
        f"export TOKEN={HALO_TOKEN}{POST_AND_LOOK}",
        *backup,
        "docker exec tocsin tocsin doctor > doctor.txt || true",
        "docker exec tocsin tocsin probe --ready",
    ]
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", "\n".join(script)], cwd=tmp_path, capture_output=True, text=True, timeout=900,
        stdin=subprocess.DEVNULL, env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    lines = done.stdout.splitlines()
    assert {"Mapped Opened", "page", "ok"} <= set(lines)
    (made,) = backups.iterdir()
    assert made.stat().st_size > 10_000
    # It names what is missing, such as a mail server.
    assert "TOCSIN_SMTP_URL" in (tmp_path / "doctor.txt").read_text()
