"""Finds the Python interpreters of this machine: the running one, those on PATH, and pyenv's.

Runs on any Python 3; it never installs anything.
"""

import os
import subprocess
import sys
from pathlib import Path

# What Tocsin's locked packages have wheels for, in the order of preference.
SUPPORTED = ((3, 13), (3, 12), (3, 14))


def every_interpreter() -> "list[str]":
    """Paths of what looks like a Python 3, the running one first. None of them has been started yet."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    folders += [Path("/usr/bin"), Path("/usr/local/bin"), Path("/opt/homebrew/bin")]
    # A pyenv shim fails for a version that is not selected: its versions are looked at in their own folders instead.
    folders = [folder for folder in folders if folder.name != "shims"]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders += sorted(pyenv.glob("versions/3.*/bin"))
    results = [sys.executable]
    for folder in folders:
        for path in sorted(folder.glob("python3*")):
            is_interpreter = all(part.isdigit() for part in path.name[len("python") :].split("."))
            if is_interpreter and os.access(str(path), os.X_OK) and str(path) not in results:
                results.append(str(path))
    return results


def version_of(path: str) -> "tuple[int, int] | None":
    """(major, minor) of a working, ordinary CPython; None for anything else."""
    code = "import sys; print(sys.implementation.name, *sys.version_info[:2], getattr(sys, 'abiflags', ''))"
    try:
        answer = subprocess.run([path, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20)
        name, major, minor, *flags = answer.stdout.decode("ascii").split()
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return (int(major), int(minor)) if name == "cpython" and not flags else None


def newest_supported() -> "str | None":
    """The interpreter that Tocsin should run on, or None if this machine has none."""
    versions = [(path, version_of(path)) for path in every_interpreter()]
    for expected in SUPPORTED:
        for path, version in versions:
            if version == expected:
                return path
    return None


def at_least(lowest: "tuple[int, int]") -> "list[str]":
    """Every working interpreter from that version on, the running one first."""
    return [path for path in every_interpreter() if (version_of(path) or (0, 0)) >= lowest]
