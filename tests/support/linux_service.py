"""The service of the .deb and the .rpm in a file system of its own, started as systemd starts it."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.upgrade_walk import PLAIN, System
from tocsin.operate import service


def unit_of(root: Path) -> dict[str, str]:
    """The settings of the unit; of those that come twice, the last."""
    text = (root / service.PACKAGE_UNIT.relative_to("/")).read_text()
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def unit_command(root: Path, port: str) -> list[str]:
    """The unit's command, on that port."""
    command = shlex.split(unit_of(root)["ExecStart"])
    assert command[-2:] == ["--port", "8686"]
    return [*command[:-1], port]


def service_of(
    system: System, log: Path, added: Mapping[str, str] | None = None
) -> Callable[[str], subprocess.Popen[bytes]]:
    """Starts the service on a port as systemd does: its user, its variables and those added, few capabilities."""

    def start(port: str) -> subprocess.Popen[bytes]:
        unit = unit_of(system.root)
        user = ["setpriv", f"--reuid={unit['User']}", f"--regid={unit['Group']}", "--init-groups", "--no-new-privs"]
        data_dir = service.read_environment(unit["Environment"].strip('"'))
        with log.open("ab") as file:
            return subprocess.Popen(
                system.command(*user, *unit_command(system.root, port)),
                env={**PLAIN, **data_dir, **variables(system.root), **(added or {})}, cwd="/", stdout=file, stderr=file,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip

    return start


def variables(root: Path) -> dict[str, str]:
    return service.read_environment((root / "etc/tocsin/tocsin.env").read_text())


def write_variables(root: Path, added: Mapping[str, str]) -> None:
    file = root / "etc/tocsin/tocsin.env"
    file.write_text(file.read_text() + "".join(f"{name}={value}\n" for name, value in added.items()))
