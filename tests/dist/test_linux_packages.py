"""The .deb and the .rpm: installed on a clean system, used, upgraded while a page is sent, removed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import bring
import interpreters
import pytest
from builders import debian_base, linux

from tests.doubles.smtp import SmtpDouble
from tests.support import install_pages
from tests.support.installation import CONFIGURATION, ask
from tests.support.upgrade_walk import (
    NEXT_VERSION,
    PLAIN,
    VERSION,
    System,
    next_wheel,
    started,
    upgrade_with_pages,
)
from tocsin.operate import service

SCRIPTS = sorted(path for path in linux.SOURCES.glob("*/*") if path.parent.name in ("deb", "rpm"))


@pytest.mark.parametrize(
    "script", [*SCRIPTS, linux.SOURCES / "compile.sh"], ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_script_of_package_is_a_shell_script(script: Path) -> None:
    assert subprocess.run(["sh", "-n", script], capture_output=True).stderr == b""


def test_packages_are_for_the_supported_versions_of_python() -> None:
    classifiers = re.findall(r"Python :: (3\.\d+)", (bring.ROOT / "pyproject.toml").read_text())
    assert list(linux.DEB.versions) == classifiers
    assert linux.RPM.python == f"/usr/bin/python{linux.RPM.versions[0]}"
    last = int(classifiers[-1].removeprefix("3."))
    assert {f"python3 (>= {classifiers[0]})", f"python3 (<< 3.{last + 1})"} <= set(linux.DEB.depends)


def test_origin_of_the_wheel_is_in_no_package(tmp_path: Path) -> None:
    info = tmp_path / "tocsin-1.dist-info"
    info.mkdir()
    for name in ("METADATA", "direct_url.json", "uv_cache.json"):
        (info / name).write_text("")
    lines = [f"{info.name}/{name},sha256=x,0\n" for name in ("METADATA", "direct_url.json", "uv_cache.json")]
    (info / "RECORD").write_text("".join(lines))
    linux._forget_origin(info)
    assert {path.name for path in info.iterdir()} == {"METADATA", "RECORD"}
    assert (info / "RECORD").read_text() == lines[0]


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skips a test where these or root are missing."""
    missing = [program for program in programs if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    reason = f"needs {', '.join(missing)}" if missing else "needs root"
    return pytest.mark.skipif(bool(missing) or os.geteuid() != 0, reason=reason)


@pytest.fixture
def folder() -> Iterator[Path]:
    """At a short path through which the accounts of services may pass."""
    path = Path(tempfile.mkdtemp(prefix="tocsin-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def debian(folder: Path) -> System:
    """Debian's smallest system with apt."""
    command = ["mmdebstrap", "--mode=root", "--variant=apt", "--quiet", "trixie", folder / "debian"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return System(folder / "debian")


def unit_of(root: Path) -> dict[str, str]:
    """The settings of the unit; of those that come twice, the last."""
    text = (root / service.PACKAGE_UNIT.relative_to("/")).read_text()
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def unit_command(root: Path, port: str) -> list[str]:
    """The unit's command, on that port."""
    command = shlex.split(unit_of(root)["ExecStart"])
    assert command[-2:] == ["--port", "8686"]
    return [*command[:-1], port]


def service_of(system: System, log: Path) -> Callable[[str], subprocess.Popen[bytes]]:
    """Starts the service on a port as systemd does: its user, its variables, few capabilities."""

    def start(port: str) -> subprocess.Popen[bytes]:
        unit = unit_of(system.root)
        user = ["setpriv", f"--reuid={unit['User']}", f"--regid={unit['Group']}", "--init-groups", "--no-new-privs"]
        data_dir = service.read_environment(unit["Environment"].strip('"'))
        with log.open("ab") as file:
            return subprocess.Popen(
                system.command(*user, *unit_command(system.root, port)),
                env={**PLAIN, **data_dir, **variables(system.root)}, cwd="/", stdin=subprocess.DEVNULL, stdout=file,
                stderr=file,
            )  # fmt: skip

    return start


def variables(root: Path) -> dict[str, str]:
    return service.read_environment((root / "etc/tocsin/tocsin.env").read_text())


def write_variables(root: Path, added: Mapping[str, str]) -> None:
    file = root / "etc/tocsin/tocsin.env"
    file.write_text(file.read_text() + "".join(f"{name}={value}\n" for name, value in added.items()))


def next_deb(deb: Path, folder: Path) -> Path:
    """The same package, one version later."""
    tree = folder / "next"
    subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
    for file in (tree / "DEBIAN/control", *tree.glob("opt/tocsin/lib/python3.12/site-packages/tocsin/__init__.py")):
        file.write_text(file.read_text().replace(VERSION, NEXT_VERSION))
    target = folder / deb.name.replace(VERSION, NEXT_VERSION)
    subprocess.run(["dpkg-deb", "--build", "-Zzstd", "-z1", tree, target], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return target


def upgrade_commands(program: str) -> list[str]:
    """The commands of the page for an upgrade by apt or dnf, without asking."""
    backup, install = install_pages.commands("linux-packages", "Upgrade", VERSION, NEXT_VERSION)[0]
    by_program = dict(zip(("apt", "dnf"), install.split("# or: "), strict=True))
    return [
        backup.replace("sudo ", ""),
        by_program[program].replace("sudo ", "").replace(" install ", " install --yes "),
    ]


@pytest.mark.long
@needs("mmdebstrap", "dpkg-deb", "setpriv")
def test_deb_pages_is_upgraded_and_purged(
    artefact: Callable[[str], list[Path]], debian: System, folder: Path, mails: SmtpDouble
) -> None:
    (deb,) = artefact("deb")
    shutil.copy(deb, debian.root / "tocsin.deb")
    debian.run("apt-get", "update")
    debian.run("apt-get", "install", "--yes", "--no-install-recommends", "/tocsin.deb")
    assert list((debian.root / "var/lib/tocsin").iterdir()) == []
    assert debian.run("tocsin", "--version").strip() == f"tocsin {VERSION}"
    # Where systemd cannot prepare it, the variables and the data belong to the service alone.
    user = (debian.root / "var/lib/tocsin").stat()
    settings = (debian.root / "etc/tocsin/tocsin.env").stat()
    assert (user.st_uid, settings.st_uid, settings.st_gid) == (user.st_gid, 0, user.st_gid)
    assert oct(settings.st_mode)[-3:] == "640"

    write_variables(debian.root, {"TOCSIN_SMTP_URL": mails.url, "TOCSIN_EMAIL_FROM": "Tocsin <tocsin@example.org>"})
    log = folder / "log"
    start = service_of(debian, log)

    def prepare(url: str) -> None:
        (debian.root / "tmp/team.yaml").write_text(CONFIGURATION)
        debian.run("tocsin", "apply", "/tmp/team.yaml")
        assert "Sign in" in ask("GET", f"{url}/account/login/").text
        blocks = install_pages.commands("linux-packages", "Commands", VERSION)
        for line in (line.removeprefix("sudo ") for block in blocks for line in block):
            # Alice is in the team already. The doctor ends with 1 if something is left to do, as with this small team.
            allowed = " || [ $? = 1 ]" if "doctor" in line else ""
            debian.run("sh", "-ec", line.replace("alice", "dave") + allowed, typed="A-long-password-1\n")
        assert list((debian.root / "var/backups/tocsin").iterdir())

    def upgrade() -> None:
        shutil.copy(next_deb(deb, folder), debian.root)
        for line in upgrade_commands("apt"):
            debian.run("sh", "-ec", f"cd /; {line}")

    upgrade_with_pages(
        lambda: started(start, VERSION), lambda: started(start, NEXT_VERSION), mails, prepare=prepare, upgrade=upgrade
    )
    assert "Traceback" not in log.read_text()
    assert variables(debian.root)["TOCSIN_SMTP_URL"] == mails.url

    debian.run("apt-get", "remove", "--yes", "tocsin")
    assert not (debian.root / "opt/tocsin").exists()
    assert (debian.root / "var/lib/tocsin/secret.key").exists()
    assert (debian.root / "etc/tocsin/tocsin.env").exists()
    debian.run("apt-get", "purge", "--yes", "tocsin")
    assert not (debian.root / "var/lib/tocsin").exists()
    assert not (debian.root / "etc/tocsin").exists()


@pytest.fixture
def rpm_system(folder: Path) -> System:
    """A system with rpm and the Python that the package depends on. Its distribution is another one's."""
    (wanted,) = linux.RPM.versions
    python = next((path for path in interpreters.every_interpreter() if version_of(path) == wanted), None)
    prefix = Path(os.path.realpath(python)).parent.parent if python else None
    if prefix is None or not list(prefix.glob("lib/libpython*.so*")):
        pytest.skip(f"no movable Python {wanted} on this machine")
    # Its own Python is there for the libraries that another one needs too.
    packages = ("ca-certificates", "libstdc++6", "passwd", "python3", "rpm", "systemd-standalone-sysusers")
    system = System(folder / "system")
    system.root.mkdir()
    archive = debian_base.make("rpm", packages)
    subprocess.run(["tar", "--extract", f"--file={archive}", f"--directory={system.root}"], check=True)
    shutil.copy(prefix / f"bin/python{wanted}", system.root / f"usr/bin/python{wanted}")
    shutil.copytree(prefix / f"lib/python{wanted}", system.root / f"usr/lib/python{wanted}")
    for library in prefix.glob("lib/libpython*.so*"):
        shutil.copy(library, system.root / "usr/lib")
    return system


def version_of(path: str) -> str:
    version = interpreters.version_of(path)
    return f"{version[0]}.{version[1]}" if version else ""


@pytest.mark.long
@needs("mmdebstrap", "setpriv")
def test_rpm_pages_is_upgraded_and_removed(
    artefact: Callable[[str], list[Path]], rpm_system: System, folder: Path, mails: SmtpDouble
) -> None:
    root, (wheel,) = rpm_system.root, [path for path in artefact("wheel") if path.suffix == ".whl"]
    next_wheel(wheel, folder)
    linux.build_rpm(NEXT_VERSION, folder)
    (rpm,), (new,) = artefact("rpm"), folder.glob("*.rpm")
    for file in (rpm, new):
        shutil.copy(file, root)
    # As dnf would, which is not there; nor are the distribution's own packages.
    by_dnf = "rpm --nodeps --noplugins --upgrade "
    assert "warning:" not in rpm_system.run("sh", "-ec", f"cd /; {by_dnf} ./{rpm.name} 2>&1")
    write_variables(root, {"TOCSIN_SMTP_URL": mails.url, "TOCSIN_EMAIL_FROM": "Tocsin <tocsin@example.org>"})
    log = folder / "log"
    start = service_of(rpm_system, log)

    def prepare(url: str) -> None:
        (root / "tmp/team.yaml").write_text(CONFIGURATION)
        rpm_system.run("tocsin", "apply", "/tmp/team.yaml")
        assert "Sign in" in ask("GET", f"{url}/account/login/").text

    def upgrade() -> None:
        rpm_system.run("install", "--directory", "--owner=tocsin", "--mode=0700", "/var/backups/tocsin")
        for line in upgrade_commands("dnf"):
            said = rpm_system.run("sh", "-ec", f"cd /; {line.replace('dnf install --yes ', by_dnf)} 2>&1")
            assert "warning:" not in said

    upgrade_with_pages(
        lambda: started(start, VERSION), lambda: started(start, NEXT_VERSION), mails, prepare=prepare, upgrade=upgrade
    )
    assert "Traceback" not in log.read_text()
    assert variables(root)["TOCSIN_SMTP_URL"] == mails.url
    assert unit_of(root) == dict(re.findall(r"^(\w+)=(.*)$", linux.unit(), re.MULTILINE))
    rpm_system.run("rpm", "--noplugins", "--erase", "tocsin")
    assert not (root / "opt/tocsin").exists()
    assert (root / "var/lib/tocsin/secret.key").exists()
    assert list((root / "etc/tocsin").glob("tocsin.env*"))
