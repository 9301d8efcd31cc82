"""The bills of materials (CycloneDX), with licences: of an installation, every Python package and browser part; of the
image, Debian's packages too."""

import json
import re
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path
from urllib.parse import quote

import bring

from builders import container, debian_base, python, release

#: What Tocsin's wheel contains of node_modules is in the dependencies of package.json; the others only build or test.
_PACKAGES = bring.ROOT / "package.json"
_LOCKED = bring.ROOT / "package-lock.json"


#: In the layers of an image.
_STATUS = "var/lib/dpkg/status"
_COPYRIGHT = re.compile(r"usr/share/doc/([^/]+)/copyright")


def name(version: str) -> str:
    return f"tocsin-{version}-sbom.cdx.json"


def image_name(version: str) -> str:
    return container.archive_name(version).replace(".tar.gz", "-sbom.cdx.json")


def build(version: str, out: Path) -> None:
    """Installs the wheel with the constraints into an empty environment and writes what is in it."""
    uv = bring.uv()
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "environment"
        release.run([uv, "venv", "--quiet", environment], "No environment could be made")
        install = [uv, "pip", "install", "--quiet", "--python", environment, "--require-hashes", "--no-deps"]
        constraints = out / python.constraints_name(version)
        release.run([*install, "--find-links", out, "-r", constraints], "The wheel could not be installed")
        # By PYTHONPATH the described interpreter would see the tool's own packages.
        found = f"import runpy, sys; sys.path.insert(0, {str(bring.dist_tools(uv))!r}); "
        tool = [sys.executable, "-c", f"{found}runpy.run_module('cyclonedx_py', run_name='__main__', alter_sys=True)"]
        written = Path(folder) / "bom.json"
        options = ["--output-reproducible", "--mc-type=application", f"--pyproject={bring.ROOT / 'pyproject.toml'}"]
        command = [*tool, "environment", *options, "--output-file", written, environment / "bin" / "python"]
        release.run(command, "The bill of materials could not be written")
        bom = json.loads(written.read_text())
    bom["components"] += browser_parts()
    _write(bom, out / name(version))


def build_for_image(version: str, out: Path) -> None:
    """Adds what the image has of Debian to what every installation has."""
    bom = json.loads((out / name(version)).read_text())
    bom["metadata"]["component"]["type"] = "container"
    bom["components"] += debian_packages(out / container.archive_name(version))
    _write(bom, out / image_name(version))


def _write(bom: dict[str, object], target: Path) -> None:
    target.write_text(json.dumps(bom, indent=2, sort_keys=True) + "\n")


def browser_parts() -> list[dict[str, object]]:
    """The components that came from npm."""
    names = json.loads(_PACKAGES.read_text())["dependencies"]
    locked = json.loads(_LOCKED.read_text())["packages"]
    return [_component(name, locked[f"node_modules/{name}"]) for name in sorted(names)]


def debian_packages(archive: Path) -> list[dict[str, object]]:
    """The components that are installed in an image, by its archive."""
    status, licences = "", dict[str, list[str]]()
    for path, text in _texts(archive):
        if path == _STATUS:
            # That of a later layer replaces an earlier one's.
            status = text
        elif match := _COPYRIGHT.fullmatch(path):
            # https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
            named = re.findall(r"^License:[ \t]*(\S.*)$", text, re.MULTILINE)
            licences[match[1]] = sorted(set(named))
    packages = (HeaderParser().parsestr(block) for block in status.split("\n\n") if block.strip())
    return [
        _debian_component(package["Package"], package["Version"], package["Architecture"], licences)
        for package in packages
        if package["Status"] == "install ok installed"
    ]


def _texts(archive: Path) -> Iterator[tuple[str, str]]:
    """Path and text of the files about packages, layer by layer, the first layer first."""
    with tarfile.open(archive) as image:
        manifest = image.extractfile("manifest.json")
        assert manifest is not None
        for layer in json.load(manifest)[0]["Layers"]:
            with tarfile.open(fileobj=image.extractfile(layer)) as files:
                for entry in files:
                    path = entry.name.removeprefix("./")
                    if entry.isfile() and (path == _STATUS or _COPYRIGHT.fullmatch(path)):
                        file = files.extractfile(entry)
                        assert file is not None
                        yield path, file.read().decode("utf-8", "replace")


def _debian_component(name: str, version: str, architecture: str, licences: dict[str, list[str]]) -> dict[str, object]:
    purl = f"pkg:deb/debian/{name}@{quote(version, safe='~')}?arch={architecture}&distro={debian_base.SUITE}"
    return {
        "bom-ref": purl, "type": "library", "name": name, "version": version, "purl": purl,
        "licenses": [{"license": {"name": licence}} for licence in licences.get(name, ())],
    }  # fmt: skip


def _component(name: str, package: dict[str, str]) -> dict[str, object]:
    purl = f"pkg:npm/{name.replace('@', '%40')}@{package['version']}"
    return {
        "bom-ref": purl, "type": "library", "name": name, "version": package["version"], "purl": purl,
        "licenses": [{"expression": package["license"]}],
    }  # fmt: skip
