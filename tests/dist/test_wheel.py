"""The wheel and the source archive: metadata, and two builds that are equal."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import bring
import pytest
from builders import python, release
from hatchling import build as hatchling

ROOT = Path(__file__).resolve().parents[2]


def test_metadata_names_version_licence_and_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    folder = tmp_path / hatchling.prepare_metadata_for_build_wheel(str(tmp_path))
    metadata = email.message_from_string((folder / "METADATA").read_text())
    assert (metadata["Name"], metadata["Version"]) == ("tocsin", release.version())
    assert (metadata["License-Expression"], metadata["Requires-Python"]) == ("Apache-2.0", ">=3.12")
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_constraints_hold_both_archives_and_every_locked_package(tmp_path: Path) -> None:
    for name in (python.wheel_name("1.0"), "tocsin-1.0.tar.gz"):
        (tmp_path / name).write_bytes(name.encode())
    python.build_constraints("1.0", tmp_path)
    text = (tmp_path / python.constraints_name("1.0")).read_text()
    own, _ = text.split("a2wsgi==", 1)
    assert own.count("--hash=sha256:") == 2
    names = re.findall(r"^([a-z0-9.-]+)==", text, re.MULTILINE)
    assert len(names) == len(set(names))
    # What traces and sign-in by SAML need is in every form that is made of these: image, compose, Kubernetes, air-gap.
    for group in ("runtime", "otel", "saml"):
        for line in (bring.REQUIREMENTS / f"{group}.txt").read_text().splitlines():
            assert line in text or line.lstrip().startswith("#")


@pytest.mark.long
def test_two_builds_elsewhere_are_byte_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(release.source_date()))
    first, second = (_build(tmp_path / name, umask) for name, umask in (("first", 0o022), ("second", 0o077)))
    assert first == second
    assert len(first) == 2


def _build(folder: Path, umask: int) -> dict[str, bytes]:
    """The archives' bytes by name, built from a copy of the tree whose files have other times and modes."""
    out = folder / "out"
    out.mkdir(parents=True)
    before = os.umask(umask)
    try:
        left_out = shutil.ignore_patterns(".*", "node_modules", "dist", "build", "__pycache__")
        shutil.copytree(ROOT, folder / "tree", ignore=left_out, copy_function=shutil.copyfile)
        shutil.copyfile(ROOT / ".gitignore", folder / "tree" / ".gitignore")
    finally:
        os.umask(before)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bring, "ROOT", folder / "tree")
        python.build(release.version(), out)
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.long
def test_wheel_holds_no_more_than_the_package(tmp_path: Path) -> None:
    python.build(release.version(), tmp_path)
    with zipfile.ZipFile(tmp_path / python.wheel_name(release.version())) as wheel:
        names = wheel.namelist()
    tracked = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    own = {name.removeprefix("src/") for name in tracked.split()}
    generated = (".mo", ".br", ".gz")
    unexpected = {
        name
        for name in names
        if name not in own and not name.endswith(generated) and "/vendor/" not in name and ".dist-info/" not in name
    }
    assert unexpected == set()
