"""The .deb and the .rpm: installed on a clean system, used, upgraded while a page is sent, removed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import bring
import interpreters
import pytest
from builders import debian_base, linux

from tests.doubles.smtp import SmtpDouble
from tests.support import install_pages
from tests.support.clean_system import booted
from tests.support.installation import CONFIGURATION, ask, until
from tests.support.linux_service import service_of, unit_of, variables, write_variables
from tests.support.upgrade_walk import (
    NEXT_VERSION,
    VERSION,
    System,
    next_wheel,
    post,
    started,
    upgrade_with_pages,
)

SCRIPTS = sorted(path for path in linux.SOURCES.glob("*/*") if path.parent.name in ("deb", "rpm"))


@pytest.mark.parametrize(
    "script", [*SCRIPTS, linux.SOURCES / "compile.sh"], ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_script_of_package_is_a_shell_script(script: Path) -> None:
    assert subprocess.run(["sh", "-n", script], capture_output=True).stderr == b""


def test_packages_are_for_the_supported_versions_of_python() -> None:
    classifiers = re.findall(r"Python :: (3\.\d+)", (bring.ROOT / "pyproject.toml").read_text())
    workflow = (bring.ROOT / ".github/workflows/test.yml").read_text()
    assert f"python: {json.dumps(classifiers)}" in workflow
    assert classifiers == sorted(f"{major}.{minor}" for major, minor in interpreters.SUPPORTED)
    # Of the distributions that the .deb is for, none has the newest one yet.
    assert list(linux.DEB.versions) == classifiers[:-1]
    assert linux.RPM.python == f"/usr/bin/python{linux.RPM.versions[0]}"
    last = int(linux.DEB.versions[-1].removeprefix("3."))
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


def test_programs_that_name_their_build_are_in_no_package(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    info = tmp_path / "idna-3.dist-info"
    info.mkdir()
    (info / "RECORD").write_text("bin/idna,sha256=x,315\nidna/core.py,sha256=y,1\nidna/bin/z.py,sha256=z,1\n")
    linux._remove_programs(tmp_path)
    assert not (tmp_path / "bin").exists()
    assert (info / "RECORD").read_text() == "idna/core.py,sha256=y,1\nidna/bin/z.py,sha256=z,1\n"


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


def downgrade_commands(program: str) -> list[str]:
    """The commands of the page for the way back, without asking, and without systemd's."""
    lines = install_pages.commands("linux-packages", "Upgrade", VERSION, NEXT_VERSION)[1]
    lines = [line for line in lines if "systemctl" not in line]
    by_program = dict(zip(("apt", "dnf"), lines.pop(0).split("# or: "), strict=True))
    install = by_program[program].replace(" install ", " install --yes ")
    return [line.replace("sudo ", "") for line in (install, *lines)]


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

    shutil.copy(deb, debian.root)
    for line in downgrade_commands("apt"):
        debian.run("sh", "-ec", f"cd /; {line}")
    with started(start, VERSION) as url:
        post(url, 6)
        until("the old version pages", lambda: any("VPN 6 down" in mail.subject for mail in mails.mails), 180)

    debian.run("apt-get", "remove", "--yes", "tocsin")
    assert not (debian.root / "opt/tocsin").exists()
    assert (debian.root / "var/lib/tocsin/secret.key").exists()
    assert (debian.root / "etc/tocsin/tocsin.env").exists()
    debian.run("apt-get", "purge", "--yes", "tocsin")
    assert not (debian.root / "var/lib/tocsin").exists()
    assert not (debian.root / "etc/tocsin").exists()


@pytest.fixture
def systemd(folder: Path) -> Iterator[tuple[Path, Callable[[str], str]]]:
    """A Debian that systemd runs: its root folder, and a function that runs a script in it."""
    root = folder / "booted"
    root.mkdir()
    packages = ("ca-certificates", "init-system-helpers", "libstdc++6", "passwd", "python3", "rpm", "systemd-sysv")
    archive = debian_base.make("booted", packages)
    subprocess.run(["tar", "--extract", f"--file={archive}", f"--directory={root}"], check=True)
    for name in ("console-getty", "getty@tty1", "systemd-logind"):
        (root / f"etc/systemd/system/{name}.service").symlink_to("/dev/null")
    with booted(root) as run:
        yield root, run


#: What systemd says of the service, and the processes of its user.
STATE = "systemctl is-enabled tocsin || true; systemctl is-active tocsin || true; "
LEFT = "find /proc -maxdepth 1 -name '[0-9]*' -user tocsin | wc --lines; "


@pytest.mark.long
@needs("mmdebstrap", "unshare", "nsenter")
def test_deb_is_started_and_stopped_by_systemd_as_debian_does(
    artefact: Callable[[str], list[Path]], systemd: tuple[Path, Callable[[str], str]]
) -> None:
    root, run = systemd
    shutil.copy(artefact("deb")[0], root / "root/tocsin.deb")
    install, status = "dpkg --install /root/tocsin.deb; ", "systemctl status tocsin || true; "

    def state(script: str) -> list[str]:
        return run(script + STATE).splitlines()[-2:]

    # Nothing is started where policy-rc.d forbids it.
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    assert state(install) == ["enabled", "inactive"]
    policy.unlink()
    start = "systemctl start tocsin || { journalctl --unit=tocsin | tail --lines=20; exit 1; }; "
    # As strictly as the unit confines it, it serves. `start` returns when it does.
    assert state(f"{start} tocsin probe --ready; ") == ["enabled", "active"]
    assert "Serving at http://localhost:8686" in run(status)
    assert state("systemctl stop tocsin; ") == ["enabled", "inactive"]
    assert run(LEFT) == "0\n"
    # A stop while it starts.
    assert state("systemctl start --no-block tocsin; systemctl stop tocsin; ") == ["enabled", "inactive"]
    assert run(LEFT) == "0\n"
    # What cannot start is failed, and says why.
    write_variables(root, {"TOCSIN_SECRET_KEY": "x"})
    assert state("systemctl start tocsin || true; ") == ["enabled", "failed"]
    assert 'Status: "TOCSIN_SECRET_KEY: a key needs at least 32 characters' in run(status)
    run("sed --in-place /SECRET_KEY=x/d /etc/tocsin/tocsin.env; systemctl reset-failed tocsin")
    # An administrator's will outlives an upgrade, and a removal.
    assert state(install) == ["enabled", "inactive"]
    assert state(f"systemctl start tocsin; dpkg --remove tocsin; {install}") == ["enabled", "active"]
    assert state(f"systemctl disable --now tocsin; dpkg --remove tocsin; {install}") == ["disabled", "inactive"]
    assert run(f"dpkg --purge tocsin; {LEFT}").endswith("0\n")
    assert not [path for path in ("etc/tocsin", "var/lib/tocsin") if (root / path).exists()]


@pytest.mark.long
@needs("mmdebstrap", "unshare", "nsenter")
def test_rpm_that_was_enabled_is_active_again_with_its_variables(
    artefact: Callable[[str], list[Path]], systemd: tuple[Path, Callable[[str], str]]
) -> None:
    root, run = systemd
    shutil.copy(artefact("rpm")[0], root / "root/tocsin.rpm")
    # The distribution's Python, which is another one's, does not matter for what systemd is told.
    (root / "usr/bin/python3.12").symlink_to("python3")
    install = "rpm --nodeps --noplugins --install /root/tocsin.rpm; "
    run(f"{install} systemctl enable tocsin")
    write_variables(root, {"TOCSIN_EMAIL_FROM": "tocsin@example.org"})
    run("rpm --noplugins --erase tocsin")
    said = run(f"{install} ls -d /run/tocsin.starts 2> /dev/null || echo started; {STATE}").splitlines()
    assert said[-3:-1] == ["started", "enabled"]
    assert variables(root)["TOCSIN_EMAIL_FROM"] == "tocsin@example.org"
    assert (root / "etc/tocsin/tocsin.env").stat().st_mode & 0o777 == 0o640


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
