"""The artefacts of `make dist` as tests use them, and the scripts that build them as tests import them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The scripts import each other by their plain names, as `python scripts/dist.py` does.
sys.path.append(str(ROOT / "scripts"))

from builders import container, debian_base, release  # noqa: E402

from scripts import dist  # noqa: E402
from tests.doubles.smtp import SmtpDouble, smtp_double  # noqa: E402
from tests.support.clean_system import CleanSystem  # noqa: E402
from tests.support.podman import Podman, own_network  # noqa: E402
from tests.support.upgrade_walk import NEXT_VERSION, VERSION  # noqa: E402

#: The folder that holds the artefacts, default: dist/. What is missing there is built.
FOLDER_VARIABLE = "TOCSIN_TEST_DIST"


@pytest.fixture(scope="session")
def artefact() -> Callable[[str], list[Path]]:
    """A function that gives the files of an artefact by its name."""
    folder = Path(os.environ.get(FOLDER_VARIABLE, ROOT / "dist")).absolute()
    version = release.version()

    def files(name: str) -> list[Path]:
        if not dist.written(name, version, folder):
            assert dist.build_all(version, folder, [name]) == 0
        return dist.written(name, version, folder)

    return files


@pytest.fixture(scope="session")
def podman(artefact: Callable[[str], list[Path]]) -> Iterator[Podman]:
    """Podman with the image loaded."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("podman", "runc"))):
        pytest.skip("containers need root, podman and runc")
    # Not below a folder of pytest's: other users walk through it.
    home = Path(tempfile.mkdtemp(prefix="tocsin-podman-"))
    home.chmod(0o711)
    podman = Podman(home, container.storage_driver(home))
    podman.call("load", "--quiet", "--input", artefact("image")[0])
    try:
        yield podman
    finally:
        podman.end()


@pytest.fixture
def image() -> str:
    """The image's name."""
    return container.image_name(release.version())


@pytest.fixture(scope="session")
def next_image(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an image of the next version, whose migration changes tables."""
    own, name = container.image_name(VERSION), container.image_name(NEXT_VERSION)
    folder = tmp_path_factory.mktemp("next")
    folder.chmod(0o755)
    shutil.copytree(ROOT / "tests/upgrade", folder / "tests/upgrade", ignore=shutil.ignore_patterns("__pycache__"))
    podman.call("create", "--name=next", own)
    podman.call("cp", folder, "next:/opt/next")
    variables = ("PYTHONPATH=/opt/next", "DJANGO_SETTINGS_MODULE=tests.upgrade.next_settings")
    podman.call("commit", *(f"--change=ENV {variable}" for variable in variables), "next", name)
    podman.call("rm", "next")
    return name


@pytest.fixture
def network_mails() -> Iterator[SmtpDouble]:
    """A mail server that containers on a bridge reach, in a network without others."""
    with own_network(), smtp_double(host="0.0.0.0") as double:
        double.host = "host.containers.internal"
        yield double


@pytest.fixture
def clean_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CleanSystem]:
    """A Debian with Python, its venv, and the C++ library."""
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        pytest.skip("a clean system needs root and mmdebstrap")
    archive = debian_base.make("clean", ("libstdc++6", "passwd", "python3-venv"))
    # Not below a folder of pytest's: PostgreSQL's account walks through it.
    home = Path(tempfile.mkdtemp(prefix="tocsin-clean-"))
    home.chmod(0o711)
    try:
        yield CleanSystem.unpack(archive, home / "root")
    finally:
        shutil.rmtree(home)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A folder that the image's user owns."""
    folder = tmp_path / "volume"
    folder.mkdir()
    folder.chmod(0o755)
    subprocess.run(["chown", "10001:10001", folder], check=True)
    return folder


@pytest.fixture
def mails() -> Iterator[SmtpDouble]:
    with smtp_double() as double:
        yield double
