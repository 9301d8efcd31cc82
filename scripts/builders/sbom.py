"""The bill of materials (CycloneDX): every Python package and browser part that an installation has, with licences."""

import json
import sys
import tempfile
from pathlib import Path

import bring

from builders import python, release

#: What Tocsin's wheel contains of node_modules is in the dependencies of package.json; the others only build or test.
_PACKAGES = bring.ROOT / "package.json"
_LOCKED = bring.ROOT / "package-lock.json"


def name(version: str) -> str:
    return f"tocsin-{version}-sbom.cdx.json"


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
    (out / name(version)).write_text(json.dumps(bom, indent=2, sort_keys=True) + "\n")


def browser_parts() -> list[dict[str, object]]:
    """The components that came from npm."""
    names = json.loads(_PACKAGES.read_text())["dependencies"]
    locked = json.loads(_LOCKED.read_text())["packages"]
    return [_component(name, locked[f"node_modules/{name}"]) for name in sorted(names)]


def _component(name: str, package: dict[str, str]) -> dict[str, object]:
    purl = f"pkg:npm/{name.replace('@', '%40')}@{package['version']}"
    return {
        "bom-ref": purl, "type": "library", "name": name, "version": package["version"], "purl": purl,
        "licenses": [{"expression": package["license"]}],
    }  # fmt: skip
