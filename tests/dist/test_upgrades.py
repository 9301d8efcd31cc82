"""Upgrades by the commands of the install pages, with pages on their way: pip, and the bundle without a network."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import checksums, python

from tests.doubles.smtp import SmtpDouble
from tests.support.clean_system import CleanSystem
from tests.support.install_pages import commands
from tests.support.installation import CONFIGURATION
from tests.support.upgrade_walk import (
    NEXT_VERSION,
    PLAIN,
    VERSION,
    System,
    next_wheel,
    started,
    upgrade_with_pages,
)

pytestmark = pytest.mark.long

#: pip finds packages in a folder, and no index.
OFFLINE = {
    "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "HOME": "/root", "PATH": f"/opt/tocsin/bin:{PLAIN['PATH']}",
}  # fmt: skip


def next_constraints(constraints: str, wheel: Path) -> str:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    own = f"tocsin=={NEXT_VERSION} \\\n    --hash=sha256:{digest}\n"
    changed, count = re.subn(r"^tocsin==.*?(?=^a2wsgi==)", lambda _: own, constraints, flags=re.MULTILINE | re.DOTALL)
    assert count == 1
    return changed


def walk(system: System, mails: SmtpDouble, *, install: list[str], upgrade: list[str]) -> None:
    """Carries out both in the system, as root, and restarts where the page has systemd do it."""
    assert upgrade[-1] == "sudo systemctl restart tocsin"

    def run(lines: list[str]) -> None:
        script = "\n".join(['sudo() { "$@"; }', "mkdir -p /backup", *lines])
        system.run("sh", "-euc", script, variables=OFFLINE)

    def start(port: str) -> subprocess.Popen[bytes]:
        variables = {"TOCSIN_SMTP_URL": mails.url, "TOCSIN_EMAIL_FROM": "tocsin@example.org"}
        with (system.root.parent / "log").open("ab") as file:
            return subprocess.Popen(
                system.command("tocsin", "serve", "--port", port), env=PLAIN | OFFLINE | variables,
                stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip

    run(install)
    upgrade_with_pages(
        lambda: started(start, VERSION), lambda: started(start, NEXT_VERSION), mails,
        prepare=lambda _: run(["tocsin apply /root/tocsin.yaml"]), upgrade=lambda: run(upgrade[:-1]),
    )  # fmt: skip
    assert "Traceback" not in (system.root.parent / "log").read_text()


def test_package_with_checked_hashes_is_upgraded(
    clean_system: CleanSystem, artefact: Callable[[str], list[Path]], mails: SmtpDouble, tmp_path: Path
) -> None:
    root, context = clean_system.root, artefact("context")[0]
    shutil.copytree(context / "wheels", root / "wheels")
    (root / "root/tocsin.yaml").write_text(CONFIGURATION)
    constraints = (context / "constraints.txt").read_text()
    (root / "root" / python.constraints_name(VERSION)).write_text(constraints)
    new = next_wheel(root / "wheels" / python.wheel_name(VERSION), tmp_path)
    (root / "root" / python.constraints_name(NEXT_VERSION)).write_text(next_constraints(constraints, new))
    *install, _serve = ["cd /root", *commands("pip", "With checked hashes", VERSION)[0]]
    backup, _by_uv, restart = commands("pip", "Upgrade", VERSION, NEXT_VERSION)[0]
    # "or, with checked hashes, as it was installed".
    again = install[-1].replace(VERSION, NEXT_VERSION)
    shutil.copy(new, root / "new.whl")
    bring_it = f"mv /new.whl /wheels/{new.name}"
    walk(
        System(root), mails, install=install, upgrade=["cd /root", backup, bring_it, again, "tocsin --version", restart]
    )


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
