"""The bundle for machines without a network: wheels, image, documentation, compose files, an installer."""

import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import bring
import interpreters

from builders import checksums, container, python, release, sbom, wheelhouse

SCRIPT = bring.ROOT / "packaging" / "airgap" / "install.sh"


def archive_name(version: str) -> str:
    return f"tocsin-{version}-airgap-{wheelhouse.machine()}.tar"


def build(version: str, out: Path) -> None:
    """Writes the archive. Most of its files are compressed already, so it is not."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / f"tocsin-{version}"
        wheels = folder / "wheels"
        wheelhouse.fill(wheels, sorted(interpreters.SUPPORTED), wheelhouse.machine())
        wheelhouse.add_installer(wheels)
        shutil.copy(out / python.wheel_name(version), wheels)
        wheelhouse.write_constraints(version, out, wheels, folder / "constraints.txt")
        for name in (container.archive_name(version), sbom.name(version), sbom.image_name(version)):
            shutil.copy(out / name, folder)
        shutil.copy(SCRIPT, folder)
        shutil.copytree(bring.ROOT / "packaging" / "compose", folder / "compose")
        release.run([sys.executable, bring.ROOT / "scripts" / "docs_site.py"], "The documentation could not be built")
        shutil.copytree(bring.ROOT / "build" / "site", folder / "docs")
        checksums.write(folder)
        with tarfile.open(out / archive_name(version), "w", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted([folder, *folder.rglob("*")]):
                archive.add(path, path.relative_to(temporary), recursive=False, filter=_plain)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """The entry as every build writes it."""
    is_program = entry.isdir() or entry.name.endswith(".sh")
    return entry.replace(
        mtime=release.source_date(),
        mode=0o755 if is_program else 0o644,
        uid=0,
        gid=0,
        uname="root",
        gname="root",
        deep=False,
    )
