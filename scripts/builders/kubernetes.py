"""The Kustomize manifests and the Helm chart, each as an archive."""

import gzip
import io
import shutil
import tarfile
import tempfile
from pathlib import Path

import addresses
import bring

from builders import release

PACKAGING = bring.ROOT / "packaging"


def build_manifests(version: str, out: Path) -> None:
    _archive(PACKAGING / "kubernetes", f"tocsin-{version}-kubernetes", out / f"tocsin-{version}-kubernetes.tar.gz")


def build_chart(version: str, out: Path) -> None:
    known = addresses.read()
    with tempfile.TemporaryDirectory() as temporary:
        chart = Path(temporary) / "tocsin"
        shutil.copytree(PACKAGING / "helm" / "tocsin", chart)
        about = (chart / "Chart.yaml").read_text()
        if known["documentation"]:
            about += f"home: {known['documentation']}\n"
        if known["repository"]:
            about += f"sources: [{known['repository']}]\n"
        if known["maintainer"]:
            about += f"maintainers: [{{name: The Tocsin authors, email: {known['maintainer']}}}]\n"
        (chart / "Chart.yaml").write_text(about)
        if known["image"]:
            values = (chart / "values.yaml").read_text()
            assert "repository: tocsin\n" in values
            (chart / "values.yaml").write_text(
                values.replace("repository: tocsin\n", f"repository: {known['image']}\n", 1)
            )
        _archive(chart, "tocsin", out / f"tocsin-{version}-chart.tgz")


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
