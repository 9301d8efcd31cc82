"""The wheel, the source archive, and the file of constraints that installs exactly what was tested."""

import hashlib
import re
import sys
import tempfile
from pathlib import Path

import bring

from builders import release

#: What every form but the bare wheel brings, traces and sign-in by SAML included: to most of them nothing can be added
#: later.
REQUIREMENTS = ("runtime", "otel", "saml")

_REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==", re.MULTILINE)


def locked() -> str:
    """The locked versions and hashes of REQUIREMENTS, each package once."""
    packages: dict[str, str] = {}
    for name in REQUIREMENTS:
        packages = blocks((bring.REQUIREMENTS / f"{name}.txt").read_text()) | packages
    return "".join(packages[name] for name in sorted(packages))


def blocks(requirements: str) -> dict[str, str]:
    """The lines of each requirement, with its hashes, by name."""
    starts = [match.start() for match in _REQUIREMENT.finditer(requirements)]
    parts = [requirements[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
    return {part.partition("==")[0]: part.rstrip("\n") + "\n" for part in parts}


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
    head = f"# Tocsin {version} and the packages it was tested with: pip install --require-hashes -r this file.\n"
    (out / constraints_name(version)).write_text(f"{head}tocsin=={version}{hashes}\n{locked()}")
