"""Brings the wheels of everything that Tocsin needs, checked by hash, so that installing reaches no registry."""

import hashlib
import platform
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import bring

from builders import python, release

#: Packages without a wheel on PyPI. They are pure Python, and are built once from the hashed source.
SOURCE_ONLY = ("http-ece",)

#: The oldest and the newest glibc whose wheels are taken: a machine from 2021 on has 2.34.
_GLIBC = ((2, 5), (2, 34))
_OLD_NAMES = {"x86_64": ("manylinux1", "manylinux2010", "manylinux2014"), "aarch64": ("manylinux2014",)}


def machine() -> str:
    """The processor of this machine as wheels name it: x86_64 or aarch64."""
    return platform.machine()


def fill(folder: Path, pythons: Iterable[tuple[int, int]], processor: str) -> None:
    """Fills an empty folder with wheels for these versions of Python. Raises bring.CannotGoOn if one is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    packages = python.blocks(python.locked())
    ready = "".join(block for name, block in packages.items() if name not in SOURCE_ONLY)
    for major, minor in pythons:
        tag = f"cp{major}{minor}"
        target = ["--only-binary=:all:", "--implementation=cp", f"--python-version={major}.{minor}"]
        target += [f"--abi={abi}" for abi in (tag, "abi3", "none")]
        target += [f"--platform={name}" for name in platforms(processor)]
        problem = f"A wheel for Python {major}.{minor} on {processor} is missing"
        _pip(["download", *target, f"--dest={folder}"], ready, problem)
    source = "".join(packages[name] for name in SOURCE_ONLY)
    _pip(["wheel", "--no-build-isolation", f"--wheel-dir={folder}"], source, "A wheel could not be built")


def add_installer(folder: Path) -> None:
    """Adds pip's own wheel, which a machine may lack."""
    pip = python.blocks((bring.REQUIREMENTS / "dist.txt").read_text())["pip"]
    _pip(["download", "--only-binary=:all:", f"--dest={folder}"], pip, "pip could not be brought")


def _pip(arguments: list[str], requirements: str, problem: str) -> None:
    pip, variables = release.tool("pip")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text(requirements)
        common = ["--quiet", "--no-deps", "--require-hashes", "-r", file]
        release.run([*pip, *arguments, *common], problem, variables=variables)


def platforms(processor: str) -> list[str]:
    """The platform tags that are taken, the newest glibc first."""
    (major, oldest), (_, newest) = _GLIBC
    names = [f"manylinux_{major}_{minor}_{processor}" for minor in range(newest, oldest - 1, -1)]
    return [*names, *(f"{name}_{processor}" for name in _OLD_NAMES[processor])]


def write_constraints(version: str, out: Path, wheels: Path, target: Path) -> None:
    """Writes the constraints of `out`, to which the hashes of the wheels that were built here are added."""
    text = (out / python.constraints_name(version)).read_text()
    for name in SOURCE_ONLY:
        built = next(wheels.glob(f"{name.replace('-', '_')}-*.whl"))
        digest = hashlib.sha256(built.read_bytes()).hexdigest()
        pin = re.search(rf"^{re.escape(name)}==\S+ \\\n", text, re.MULTILINE)
        assert pin is not None
        text = text.replace(pin[0], f"{pin[0]}    --hash=sha256:{digest} \\\n")
    target.write_text(text)
