"""Upgrades by the commands of the install pages, with pages on their way: pip, uv, and the bundle without a network."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import bring
import pytest
from builders import checksums, python

from tests.doubles.smtp import SmtpDouble
from tests.support.clean_system import CleanSystem
from tests.support.install_pages import commands
from tests.support.installation import CONFIGURATION, until
from tests.support.upgrade_walk import (
    NEXT_VERSION,
    PLAIN,
    VERSION,
    System,
    next_wheel,
    post,
    started,
    upgrade_with_pages,
)

pytestmark = pytest.mark.long

#: pip and uv find packages in a folder, and no index.
OFFLINE = {
    "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels",
    "UV_OFFLINE": "1", "UV_NO_INDEX": "1", "UV_FIND_LINKS": "/wheels",
    "HOME": "/root", "PATH": f"/opt/tocsin/bin:/root/.local/bin:/usr/local/bin:{PLAIN['PATH']}",
}  # fmt: skip


def next_constraints(constraints: str, wheel: Path) -> str:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    own = f"tocsin=={NEXT_VERSION} \\\n    --hash=sha256:{digest}\n"
    changed, count = re.subn(r"^tocsin==.*?(?=^a2wsgi==)", lambda _: own, constraints, flags=re.MULTILINE | re.DOTALL)
    assert count == 1
    return changed


def carry_out(system: System, lines: list[str]) -> None:
    """Carries out commands of a page in the system, as root, but for systemd's."""
    script = "\n".join(['sudo() { "$@"; }', "systemctl() { :; }", "mkdir -p /backup", *lines])
    system.run("sh", "-euc", script, variables=OFFLINE)


def serve(system: System, mails: SmtpDouble) -> Callable[[str], subprocess.Popen[bytes]]:
    """Starts a node on a port."""

    def start(port: str) -> subprocess.Popen[bytes]:
        variables = {"TOCSIN_SMTP_URL": mails.url, "TOCSIN_EMAIL_FROM": "tocsin@example.org"}
        with (system.root.parent / "log").open("ab") as file:
            return subprocess.Popen(
                system.command("tocsin", "serve", "--port", port), env=PLAIN | OFFLINE | variables,
                stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip

    return start


def walk(system: System, mails: SmtpDouble, *, install: list[str], upgrade: list[str]) -> None:
    """Carries out both in the system, and restarts where the page has systemd do it."""
    assert upgrade[-1] == "sudo systemctl restart tocsin"
    start = serve(system, mails)
    carry_out(system, install)
    upgrade_with_pages(
        lambda: started(start, VERSION), lambda: started(start, NEXT_VERSION), mails,
        prepare=lambda _: carry_out(system, ["tocsin apply /root/tocsin.yaml"]),
        upgrade=lambda: carry_out(system, upgrade),
    )  # fmt: skip
    assert "Traceback" not in (system.root.parent / "log").read_text()


@pytest.fixture
def packages(clean_system: CleanSystem, artefact: Callable[[str], list[Path]], tmp_path: Path) -> tuple[System, str]:
    """A system with uv, the packages and the constraints of both versions, and the command by which the next version
    appears in the folder of artefacts."""
    root, context = clean_system.root, artefact("context")[0]
    shutil.copytree(context / "wheels", root / "wheels")
    shutil.copy(bring.uv(), root / "usr/local/bin/uv")
    (root / "root/tocsin.yaml").write_text(CONFIGURATION)
    (root / "wheels" / python.wheel_name(VERSION)).rename(root / "root" / python.wheel_name(VERSION))
    constraints = (context / "constraints.txt").read_text()
    (root / "root" / python.constraints_name(VERSION)).write_text(constraints)
    new = next_wheel(root / "root" / python.wheel_name(VERSION), tmp_path)
    (root / "root" / python.constraints_name(NEXT_VERSION)).write_text(next_constraints(constraints, new))
    shutil.copy(new, root / "new.whl")
    return System(root), f"mv /new.whl /root/{new.name}"


def test_package_with_checked_hashes_is_upgraded(packages: tuple[System, str], mails: SmtpDouble) -> None:
    system, publish = packages
    *install, _serve = ["cd /root", *commands("pip", "With checked hashes", VERSION)[0]]
    backup, _by_uv, restart = commands("pip", "Upgrade", VERSION, NEXT_VERSION)[0]
    # "or, with checked hashes, as it was installed".
    again = install[-1].replace(VERSION, NEXT_VERSION)
    walk(
        system, mails, install=install,
        upgrade=["cd /root", backup, publish, again, "tocsin --version", restart],
    )  # fmt: skip


def test_tool_is_upgraded_by_uv_and_led_back(packages: tuple[System, str], mails: SmtpDouble) -> None:
    system, publish = packages
    _newest, (install,), *_ = commands("pip", "Install and start", VERSION)
    (backup, _newest_again, restart), back = commands("pip", "Upgrade", VERSION, NEXT_VERSION)
    # "or, with constraints …, as it was installed".
    again = install.replace(VERSION, NEXT_VERSION)
    walk(
        system, mails, install=["cd /root", install],
        upgrade=["cd /root", backup, publish, again, "tocsin --version", restart],
    )  # fmt: skip
    carry_out(system, ["cd /root", *back])
    with started(serve(system, mails), VERSION) as url:
        post(url, 6)
        until("the old version pages", lambda: any("VPN 6 down" in mail.subject for mail in mails.mails), 180)


def test_bundle_upgrades_without_an_index(
    clean_system: CleanSystem, artefact: Callable[[str], list[Path]], mails: SmtpDouble, tmp_path: Path
) -> None:
    root, served = clean_system.root, clean_system.root / "srv"
    subprocess.run(["tar", "--extract", f"--file={artefact('airgap')[0]}", f"--directory={served}"], check=True)
    (root / "root/tocsin.yaml").write_text(CONFIGURATION)
    bundle = served / f"tocsin-{NEXT_VERSION}"
    subprocess.run(["cp", "--archive", "--link", served / f"tocsin-{VERSION}", bundle], check=True)
    old = bundle / "wheels" / python.wheel_name(VERSION)
    new = next_wheel(old, tmp_path)
    text = next_constraints((bundle / "constraints.txt").read_text(), new)
    for replaced in (old, bundle / "constraints.txt", bundle / checksums.NAME):
        replaced.unlink()
    shutil.copy(new, bundle / "wheels")
    (bundle / "constraints.txt").write_text(text)
    checksums.write(bundle)
    _unpack, install, _serve = commands("airgap", "As a Python package", VERSION)[0]
    upgrade = commands("airgap", "Upgrade", VERSION, NEXT_VERSION)[0]
    walk(System(root), mails, install=["cd /srv", install], upgrade=["cd /srv", *upgrade])
