"""The .deb and the .rpm: installed on a clean system, used, upgraded while a page is sent, removed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket

import bring
import interpreters
import pytest
from builders import linux, release

from tests.doubles.smtp import SmtpDouble, smtp_double
from tests.support import install_pages
from tests.support.installation import CONFIGURATION, HALO_TOKEN, ask, ticket, until
from tocsin.operate import service

SCRIPTS = sorted(path for path in linux.SOURCES.glob("*/*") if path.parent.name in ("deb", "rpm"))


@pytest.mark.parametrize("script", [*SCRIPTS, linux.SOURCES / "compile.sh"], ids=lambda path: f"{path.parent.name}-{path.name}")
def test_script_of_package_is_a_shell_script(script: Path) -> None:
    assert subprocess.run(["sh", "-n", script], capture_output=True).stderr == b""


def test_packages_are_for_the_supported_versions_of_python() -> None:
    classifiers = re.findall(r"Python :: (3\.\d+)", (bring.ROOT / "pyproject.toml").read_text())
    assert list(linux.DEB.versions) == classifiers
    assert linux.RPM.python == f"/usr/bin/python{linux.RPM.versions[0]}"
    last = int(classifiers[-1].removeprefix("3."))
    assert {f"python3 (>= {classifiers[0]})", f"python3 (<< 3.{last + 1})"} <= set(linux.DEB.depends)


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
def mails() -> Iterator[SmtpDouble]:
    with smtp_double() as double:
        yield double


@dataclass(frozen=True)
class System:
    """A file system of its own. Commands run in it with nothing of this machine's environment."""

    root: Path

    def command(self, *words: str) -> list[str]:
        mounted = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
        return ["unshare", "--mount", "sh", "-c", mounted, str(self.root), *words]

    def run(self, *words: str, typed: str = "") -> str:
        done = subprocess.run(
            self.command(*words), env=PLAIN, cwd="/root", input=typed, text=True, capture_output=True
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def variables(self) -> dict[str, str]:
        return service.read_environment((self.root / "etc/tocsin/tocsin.env").read_text())


PLAIN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}


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


@contextmanager
def started(start: Callable[[list[str]], subprocess.Popen[bytes]], root: Path) -> Iterator[str]:
    """The unit's command, on a free port. Gives its address once it is ready, and ends it."""
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = shlex.split(unit_of(root)["ExecStart"])
    assert command[-2:] == ["--port", "8686"]
    process = start([*command[:-1], str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        until("Tocsin is ready", lambda: process.poll() is not None or is_ready(url), 120)
        assert process.poll() is None
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0


def is_ready(url: str) -> bool:
    try:
        return ask("GET", f"{url}/readyz").status == 200
    except OSError:
        return False


def service_of(system: System, log: Path) -> Callable[[list[str]], subprocess.Popen[bytes]]:
    """Starts a command as systemd does for the unit: its user, its variables, few capabilities."""

    def start(command: list[str]) -> subprocess.Popen[bytes]:
        unit = unit_of(system.root)
        user = ["setpriv", f"--reuid={unit['User']}", f"--regid={unit['Group']}", "--init-groups", "--no-new-privs"]
        data_dir = service.read_environment(unit["Environment"].strip('"'))
        with log.open("ab") as file:
            return subprocess.Popen(
                system.command(*user, *command), env={**PLAIN, **data_dir, **system.variables()}, cwd="/",
                stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip

    return start


def write_variables(root: Path, variables: Mapping[str, str]) -> None:
    file = root / "etc/tocsin/tocsin.env"
    file.write_text(file.read_text() + "".join(f"{name}={value}\n" for name, value in variables.items()))


def post(url: str, number: int) -> int:
    answer = ask("POST", f"{url}/in/{HALO_TOKEN}", ticket(number))
    assert answer.status == 200, answer.text
    return int(answer.json()["alert_id"])


def pages(mails: SmtpDouble) -> list[int]:
    """The alerts about which Alice was paged, one for each mail."""
    found = [re.search(r"\(Tocsin #(\d+)\)", mail.subject) for mail in mails.mails if mail.to.startswith("alice@")]
    return sorted(int(match[1]) for match in found if match)


def next_version(deb: Path, folder: Path) -> Path:
    """The same package, one version later."""
    tree = folder / "next"
    subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
    old, new = release.version(), NEXT_VERSION
    for file in (tree / "DEBIAN/control", *tree.glob("opt/tocsin/lib/python3.12/site-packages/tocsin/__init__.py")):
        file.write_text(file.read_text().replace(old, new))
    target = folder / f"tocsin_{new}-1.deb"
    subprocess.run(["dpkg-deb", "--build", "-Zzstd", "-z1", tree, target], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return target


NEXT_VERSION = release.version().rpartition(".")[0] + ".99"


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
    assert debian.run("tocsin", "--version").strip() == f"tocsin {release.version()}"
    # Where systemd cannot prepare it, the variables and the data belong to the service alone.
    user = (debian.root / "var/lib/tocsin").stat()
    variables = (debian.root / "etc/tocsin/tocsin.env").stat()
    assert (user.st_uid, variables.st_uid, variables.st_gid) == (user.st_gid, 0, user.st_gid)
    assert oct(variables.st_mode)[-3:] == "640"

    write_variables(debian.root, {"TOCSIN_SMTP_URL": mails.url, "TOCSIN_EMAIL_FROM": "Tocsin <tocsin@example.org>"})
    log = folder / "log"
    start = service_of(debian, log)
    with started(start, debian.root) as url:
        (debian.root / "tmp/team.yaml").write_text(CONFIGURATION)
        debian.run("tocsin", "apply", "/tmp/team.yaml")
        first = post(url, 1)
        until("Alice is paged", lambda: pages(mails) == [first], 60)
        assert "Sign in" in ask("GET", f"{url}/account/login/").text
        blocks = install_pages.commands("linux-packages", "Commands", release.version())
        for line in (line.removeprefix("sudo ") for block in blocks for line in block):
            # Alice is in the team already. The doctor ends with 1 if something is left to do, as with this small team.
            allowed = " || [ $? = 1 ]" if "doctor" in line else ""
            debian.run("sh", "-ec", line.replace("alice", "dave") + allowed, typed="A-long-password-1\n")
        assert list((debian.root / "var/backups/tocsin").iterdir())

        # The mail server has this page, and its answer is on the way while everything is replaced.
        mails.takes = 5
        second = post(url, 2)
        until("the second page is under way", lambda: pages(mails) == [first, second], 60)
        shutil.copy(next_version(deb, folder), debian.root / "tocsin.deb")
        debian.run("apt-get", "install", "--yes", "/tocsin.deb")
        mails.takes = 5
        third = post(url, 3)
        until("the third page is under way", lambda: len(pages(mails)) == 3, 60)
        fourth = post(url, 4)
    mails.takes = 0
    with started(start, debian.root) as url:
        assert f'tocsin_build_info{{version="{NEXT_VERSION}"}}' in ask("GET", f"{url}/metrics", headers=LOCAL).text
        until("each alert has its page", lambda: len(pages(mails)) >= 4, 60)
        fifth = post(url, 5)
        until("the new version pages", lambda: fifth in pages(mails), 60)
        assert pages(mails) == [first, second, third, fourth, fifth]
        assert debian.run("tocsin", "token", "create", "--user", "carol", "--name", "test").strip()
    assert "Traceback" not in log.read_text()
    assert debian.variables()["TOCSIN_SMTP_URL"] == mails.url

    debian.run("apt-get", "remove", "--yes", "tocsin")
    assert not (debian.root / "opt/tocsin").exists()
    assert (debian.root / "var/lib/tocsin/secret.key").exists()
    assert (debian.root / "etc/tocsin/tocsin.env").exists()
    debian.run("apt-get", "purge", "--yes", "tocsin")
    assert not (debian.root / "var/lib/tocsin").exists()
    assert not (debian.root / "etc/tocsin").exists()


LOCAL = {"Host": "localhost"}


@pytest.mark.long
@needs("rpm2cpio", "cpio")
def test_rpm_pages_from_its_tree(artefact: Callable[[str], list[Path]], folder: Path, mails: SmtpDouble) -> None:
    (wanted,) = linux.RPM.versions
    python = next((path for path in interpreters.every_interpreter() if version_of(path) == wanted), None)
    if python is None:
        pytest.skip(f"no Python {wanted} on this machine")
    (rpm,) = artefact("rpm")
    unpack = f"cd {folder} && rpm2cpio {rpm} | cpio --extract --make-directories --quiet"
    subprocess.run(["sh", "-c", unpack], check=True)
    home = folder / "opt/tocsin"
    # Its place on this machine, and the Python that the package depends on.
    (home / "bin/python").unlink()
    (home / "bin/python").symlink_to(python)
    (home / "pyvenv.cfg").write_text(f"home = {Path(python).parent}\n")
    write_variables(folder, {"TOCSIN_SMTP_URL": mails.url, "TOCSIN_EMAIL_FROM": "tocsin@example.org"})
    system = System(folder)
    environ = {**PLAIN, **system.variables(), "TOCSIN_DATA_DIR": str(folder / "data")}

    def start(command: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [home / "bin/python", "-c", MAIN, *command[1:]], env=environ, stdin=subprocess.DEVNULL, cwd="/"
        )

    with started(start, folder) as url:
        (folder / "team.yaml").write_text(CONFIGURATION)
        apply = [home / "bin/python", "-c", MAIN, "apply", folder / "team.yaml"]
        subprocess.run(apply, env=environ, check=True, cwd="/")
        first = post(url, 1)
        until("Alice is paged", lambda: pages(mails) == [first], 60)
        assert "Sign in" in ask("GET", f"{url}/account/login/").text
    assert unit_of(folder) == dict(re.findall(r"^(\w+)=(.*)$", linux.unit(), re.MULTILINE))


#: As root it would become the service's user, who cannot use an interpreter in a home directory.
MAIN = "from tocsin.cli.main import main; main()"


def version_of(path: str) -> str:
    version = interpreters.version_of(path)
    return f"{version[0]}.{version[1]}" if version else ""
