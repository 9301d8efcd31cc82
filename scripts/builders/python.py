"""The wheel, the source archive, and the file of constraints that installs exactly what was tested."""

import hashlib
import sys
import tempfile
from pathlib import Path

import bring

from builders import release


def wheel_name(version: str) -> str:
    return f"tocsin-{version}-py3-none-any.whl"


def constraints_name(version: str) -> str:
    return f"tocsin-{version}-constraints.txt"


def build(version: str, out: Path) -> None:
    """Writes both archives. The wheel is built from the source archive, so that this holds everything it needs."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, bring.ROOT]
        release.run(command, "The wheel could not be built")
        for path in Path(folder).iterdir():
            (out / path.name).write_bytes(path.read_bytes())


def build_constraints(version: str, out: Path) -> None:
    """Writes the locked versions and hashes of Tocsin and of everything it needs, in the form of requirements."""
    archives = [out / wheel_name(version), out / f"tocsin-{version}.tar.gz"]
    hashes = "".join(f" \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in archives)
    locked = (bring.REQUIREMENTS / "runtime.txt").read_text()
    head = f"# Tocsin {version} and the packages it was tested with: pip install --require-hashes -r this file.\n"
    (out / constraints_name(version)).write_text(f"{head}tocsin=={version}{hashes}\n{locked}")
