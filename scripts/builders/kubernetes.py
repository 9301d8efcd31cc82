"""The Kustomize manifests and the Helm chart, each as an archive."""

import gzip
import io
import tarfile
from pathlib import Path

import bring

from builders import release

PACKAGING = bring.ROOT / "packaging"


def build_manifests(version: str, out: Path) -> None:
    _archive(PACKAGING / "kubernetes", f"tocsin-{version}-kubernetes", out / f"tocsin-{version}-kubernetes.tar.gz")


def build_chart(version: str, out: Path) -> None:
    _archive(PACKAGING / "helm" / "tocsin", "tocsin", out / f"tocsin-{version}-chart.tgz")


def _archive(folder: Path, name: str, target: Path) -> None:
    """Packs a folder so that two archives of the same files are equal."""
    date = release.source_date()
    tar_bytes = io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = tarfile.TarInfo(f"{name}/{path.relative_to(folder).as_posix()}")
            entry.size, entry.mtime, entry.mode = path.stat().st_size, date, 0o644
            with path.open("rb") as file:
                archive.addfile(entry, file)
    target.write_bytes(gzip.compress(tar_bytes.getvalue(), mtime=date))
