"""What every builder shares: the version, the moment of the release, the commands."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import bring

#: The date of builds outside of a Git repository: the oldest that a ZIP archive can name.
_OLDEST = 315_532_800


class Skipped(Exception):
    """The artefact is left out on purpose; the text says why. Anything that is broken is a `bring.CannotGoOn`."""


def version() -> str:
    """The version of this tree, such as `0.1.0`."""
    text = (bring.ROOT / "src" / "tocsin" / "__init__.py").read_text()
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    assert match is not None
    return match[1]


def notes(version: str) -> str:
    """The section of CHANGELOG.md about a version, its heading first. Raises bring.CannotGoOn if there is none."""
    text = (bring.ROOT / "CHANGELOG.md").read_text()
    match = re.search(rf"^## \[{re.escape(version)}\].*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if match is None:
        raise bring.CannotGoOn(f"CHANGELOG.md has no section [{version}]")
    return match[0].strip() + "\n"


def source_date() -> int:
    """Seconds since 1970 that archives name as the time of their files: $SOURCE_DATE_EPOCH, else the commit's date."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    command = ["git", "-C", str(bring.ROOT), "log", "-1", "--format=%ct"]
    try:
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    except (OSError, subprocess.CalledProcessError):
        return _OLDEST


def environ() -> dict[str, str]:
    """The environment of a reproducible build."""
    return {**os.environ, "SOURCE_DATE_EPOCH": str(source_date()), "TZ": "UTC", "LC_ALL": "C.UTF-8"}


def tool(module: str) -> tuple[list[str | Path], dict[str, str]]:
    """The command that runs a module of requirements/dist.txt, and the variables that it needs."""
    folder = bring.dist_tools(bring.uv())
    return [sys.executable, "-m", module], {"PYTHONPATH": str(folder)}


def needs_program(name: str, package: str) -> str:
    """Path of a program. Raises bring.CannotGoOn, naming Debian's package, if it is not installed."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise bring.CannotGoOn(f"{name} is missing; on Debian and Ubuntu: apt-get install {package}")
    return path


def run(
    command: list[str | Path], problem: str, *, cwd: Path = bring.ROOT, variables: Mapping[str, str] | None = None
) -> str:
    """The standard output of a command. Raises bring.CannotGoOn with the end of all it wrote if it fails."""
    done = subprocess.run(
        command, cwd=cwd, env={**environ(), **(variables or {})}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, umask=0o022,
    )  # fmt: skip
    if done.returncode:
        written = (done.stdout + done.stderr)[-4000:]
        raise bring.CannotGoOn(f"{problem}: {' '.join(map(str, command))}\n{written}")
    return done.stdout
