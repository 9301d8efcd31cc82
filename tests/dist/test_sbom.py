"""The bill of materials: every locked package and browser part, valid by CycloneDX's own schema."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import bring
import pytest
from builders import python, sbom

_VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
sys.exit(str(problem) if problem else 0)
"""


def test_browser_parts_have_version_and_licence() -> None:
    parts = {str(part["name"]): part for part in sbom.browser_parts()}
    assert {"htmx.org", "@tabler/core"} <= set(parts)
    assert parts["@tabler/core"]["purl"] == f"pkg:npm/%40tabler/core@{parts['@tabler/core']['version']}"
    assert all(part["licenses"] for part in parts.values())


def _tar(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def test_debian_packages_are_those_of_the_last_layer(tmp_path: Path) -> None:
    tini = "Package: tini\nStatus: {}\nArchitecture: amd64\nVersion: 0.19.0-3+b1\n\n"
    base = "Package: base-files\nStatus: install ok installed\nArchitecture: all\nVersion: 1:13.8\n\n"
    first = _tar({"./var/lib/dpkg/status": tini.format("deinstall ok config-files").encode()})
    licence = b"Files: *\nLicense: Expat\n\nLicense: Expat\n Permission is hereby\n"
    status = (base + tini.format("install ok installed")).encode()
    second = _tar({"var/lib/dpkg/status": status, "usr/share/doc/tini/copyright": licence})
    manifest = json.dumps([{"Layers": ["a.tar", "b.tar"]}]).encode()
    (tmp_path / "image.tar").write_bytes(_tar({"b.tar": second, "a.tar": first, "manifest.json": manifest}))
    files, tini_package = sbom.debian_packages(tmp_path / "image.tar")
    assert files["purl"] == "pkg:deb/debian/base-files@1%3A13.8?arch=all&distro=trixie"
    assert tini_package["purl"] == "pkg:deb/debian/tini@0.19.0-3%2Bb1?arch=amd64&distro=trixie"
    assert (files["licenses"], tini_package["licenses"]) == ([], [{"license": {"name": "Expat"}}])


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sbom", "image-sbom"])
def test_bill_of_materials_is_valid_and_complete(artefact: Callable[[str], list[Path]], kind: str) -> None:
    text = artefact(kind)[0].read_text()
    done = subprocess.run(
        [sys.executable, "-c", _VALIDATE], input=text, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(bring.dist_tools(bring.uv()))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    bom = json.loads(text)
    names = {_normal(component["name"]) for component in bom["components"]}
    locked = re.findall(r"^([A-Za-z0-9._-]+)==[^;\n]*$", python.locked(), re.MULTILINE)
    assert {_normal(name) for name in locked} - names == set()
    assert "pip" not in names
    assert ({"libc6", "libnss-wrapper", "python3", "tini"} <= names) == (kind == "image-sbom")
    assert bom["metadata"]["component"]["name"] == "tocsin"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.lower())
