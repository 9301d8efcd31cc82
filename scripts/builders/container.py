"""The container image, for Docker and Podman, and the folder that it is built from."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import addresses
import bring

from builders import debian_base, python, release, wheelhouse

#: What the image is built from, beside the artefacts: a release uploads files only.
CONTEXT = bring.ROOT / "build" / "context"

CONTAINERFILE = bring.ROOT / "packaging" / "container" / "Containerfile"

#: An image of Debian to build on, such as `debian:trixie-slim`. Without it a base is made from Debian's packages.
BASE_VARIABLE = "BASE_IMAGE"

#: The Python of Debian's SUITE.
PYTHON = (3, 13)

_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
#: Podman's and Buildah's own storage, so that nobody's images are touched.
STORAGE = bring.ROOT / "build" / "containers"
#: The kernel may forbid more to processes that may do less than root.
_LIMITS = ("--ulimit=nofile=20000:20000", "--ulimit=nproc=90000:90000")


def image_name(version: str) -> str:
    return f"localhost/tocsin:{version}"


def archive_name(version: str) -> str:
    return f"tocsin-{version}-image-{_NAMES[wheelhouse.machine()]}.tar.gz"


def build_context(version: str, out: Path) -> None:
    """Writes the folder CONTEXT: wheels/ and constraints.txt."""
    shutil.rmtree(CONTEXT, ignore_errors=True)
    wheelhouse.fill(CONTEXT / "wheels", [PYTHON], wheelhouse.machine())
    shutil.copy(out / python.wheel_name(version), CONTEXT / "wheels")
    wheelhouse.write_constraints(version, out, CONTEXT / "wheels", CONTEXT / "constraints.txt")


def build(version: str, out: Path) -> None:
    """Writes the image as an archive for `docker load` and `podman load`.

    Docker's format: that of the OCI has no HEALTHCHECK.
    """
    buildah = release.needs_program("buildah", "buildah")
    with _storage() as storage:
        bases = [f"--build-arg=BASE={given}"] if (given := os.environ.get(BASE_VARIABLE)) else _bases(buildah, storage)
        command = [
            buildah, *storage, "build", "--isolation=chroot", *_LIMITS, "--format=docker", "--layers=false",
            f"--timestamp={release.source_date()}", *bases, f"--tag={image_name(version)}",
            f"--label=org.opencontainers.image.version={version}",
            "--label=org.opencontainers.image.title=Tocsin", "--label=org.opencontainers.image.licenses=Apache-2.0",
            *(f"--label=org.opencontainers.image.{name}={value}" for name, value in labels().items()),
            f"--file={CONTAINERFILE}", CONTEXT,
        ]  # fmt: skip
        release.run(command, "The image could not be built")
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "image.tar"
            target = f"docker-archive:{archive}:{image_name(version)}"
            release.run(
                [buildah, *storage, "push", "--quiet", image_name(version), target], "The image was not written"
            )
            write_archive(archive, out / archive_name(version))


def labels() -> dict[str, str]:
    """The labels that name where the image is from."""
    known = addresses.read()
    values = {"source": known["repository"], "url": known["documentation"], "documentation": known["documentation"]}
    return {name: value for name, value in values.items() if value}


def write_archive(written: Path, target: Path) -> None:
    """Compresses an archive that Buildah wrote, without what no two builds have in common."""
    with (
        tarfile.open(written) as source,
        target.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        (manifest,) = _read(source, "manifest.json")
        for name in manifest["Layers"]:
            archive.addfile(source.getmember(name), source.extractfile(name))
        config = _read(source, manifest["Config"])
        # The container in which it was built, and that one's host name.
        del config["container"], config["container_config"], config["config"]["Hostname"]
        text = json.dumps(config).encode()
        name = f"{hashlib.sha256(text).hexdigest()}.json"
        _add(archive, name, text)
        _add(archive, "manifest.json", json.dumps([{**manifest, "Config": name}]).encode())


def _read(archive: tarfile.TarFile, name: str) -> Any:
    file = archive.extractfile(name)
    assert file is not None
    return json.load(file)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _bases(buildah: str, storage: list[str]) -> list[str]:
    """Imports the two bases and returns the arguments that name them."""
    bases = {
        "BASE": debian_base.make("base", ("ca-certificates", "libnss-wrapper", "libstdc++6", "python3", "tini")),
        "BUILD_BASE": debian_base.make("build-base", ("binutils", "python3-venv")),
    }
    for name, archive in bases.items():
        container = release.run([buildah, *storage, "from", "scratch"], "No container could be made").strip()
        release.run([buildah, *storage, "add", "--quiet", container, archive], "The base could not be imported")
        commit = ["commit", "--quiet", "--rm", f"--timestamp={release.source_date()}"]
        release.run([buildah, *storage, *commit, container, _base_name(name)], "The base could not be stored")
    return [f"--build-arg={name}={_base_name(name)}" for name in bases]


def _base_name(argument: str) -> str:
    return f"localhost/tocsin-{argument.lower().replace('_', '-')}"


@contextlib.contextmanager
def _storage() -> Iterator[list[str]]:
    """The arguments that name an empty storage, which is removed afterwards."""
    folder = STORAGE / str(os.getpid())
    folder.mkdir(parents=True)
    driver = storage_driver(folder)
    storage = [f"--storage-driver={driver}", f"--root={folder / 'root'}", f"--runroot={folder / 'run'}"]
    try:
        yield storage
    finally:
        subprocess.run(["buildah", *storage, "rm", "--all"], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def storage_driver(home: Path) -> str:
    """Returns the driver that copies nothing, if the kernel has its file system on the disk of `home`."""
    folders = [home / f"overlay-{name}" for name in ("lower", "upper", "work", "merged")]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    options = "lowerdir={},upperdir={},workdir={}".format(*folders)
    mount = ["unshare", "--mount", "mount", "-t", "overlay", "-o", options, "overlay", folders[-1]]
    return "vfs" if subprocess.run(mount, capture_output=True).returncode else "overlay"
