"""The bundle installs itself on a clean system without a route, and says what is wrong before it changes anything."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import release

from tests.support.clean_system import POST_AND_LOOK, SERVE, CleanSystem
from tests.support.install_pages import commands
from tests.support.installation import CONFIGURATION, HALO_TOKEN

pytestmark = pytest.mark.long

BUNDLE = f"/srv/tocsin-{release.version()}"


@pytest.fixture
def bundle(clean_system: CleanSystem, artefact: Callable[[str], list[Path]]) -> CleanSystem:
    """A clean system into which the bundle was copied."""
    target = clean_system.root / "srv"
    subprocess.run(["tar", "--extract", f"--file={artefact('airgap')[0]}", f"--directory={target}"], check=True)
    (clean_system.root / "root" / "tocsin.yaml").write_text(CONFIGURATION)
    return clean_system


def test_page_about_the_bundle_installs_without_a_route(bundle: CleanSystem) -> None:
    unpack, install, serve = commands("airgap", "As a Python package", release.version())[0]
    assert (unpack.split()[:2], serve) == (["tar", "xf"], "/opt/tocsin/bin/tocsin serve")
    said = bundle.run(
        f'cd /srv; sudo() {{ "$@"; }}\n{install}\nexport TOKEN={HALO_TOKEN} TOCSIN=/opt/tocsin/bin/tocsin\n{SERVE}'
        f"$TOCSIN apply /root/tocsin.yaml\n{POST_AND_LOOK}"
        # An upgrade while it runs.
        f"{BUNDLE}/install.sh /opt/tocsin\n"
        # What traces and sign-in by SAML need came along.
        "/opt/tocsin/bin/python -c 'import opentelemetry.sdk, opentelemetry.exporter.otlp, xmlsec, lxml'\n$TOCSIN probe"
    )
    lines = said.splitlines()
    assert [line for line in lines if line.startswith(f"tocsin {release.version()} is in /opt/tocsin. Next: ")]
    assert "Mapped Opened" in lines
    assert "page" in lines
    assert lines[-1] == "ok"
    assert (bundle.root / BUNDLE[1:] / "docs" / "index.html").is_file()


def test_damaged_bundle_installs_nothing(bundle: CleanSystem) -> None:
    with (bundle.root / BUNDLE[1:] / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    said = bundle.run(f"! {BUNDLE}/install.sh /opt/tocsin")
    assert "The bundle is damaged. Copy it again; nothing was installed." in said
    assert not (bundle.root / "opt" / "tocsin").exists()


def test_missing_python_is_named(bundle: CleanSystem) -> None:
    said = bundle.run(f"! PYTHON=python3.11 {BUNDLE}/install.sh /opt/tocsin")
    assert "No Python 3.12, 3.13 or 3.14 was found." in said
    assert not (bundle.root / "opt" / "tocsin").exists()
