"""`make dist`: builds the artefacts of a release into dist/. `make dist ONLY="wheel image"` builds those, and what they
are made from if it is not there yet.

The last lines say of each artefact how it went and how large it is. The exit code is 1 if any failed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import addresses
import bring
import debian
import translations
from builders import airgap, checksums, container, kubernetes, linux, python, release, sbom


@dataclass(frozen=True, slots=True)
class Artefact:
    """`build(version, out)` writes the files of `files`, globs in which `{version}` stands for the version.

    It raises `release.Skipped` to leave the artefact out, `bring.CannotGoOn` if it cannot be built.
    """

    build: Callable[[str, Path], None]
    files: tuple[str, ...]
    needs: tuple[str, ...] = ()
    #: Where they are, if not among the artefacts that are published.
    folder: Path | None = None


#: In the order in which they are built.
ARTEFACTS: dict[str, Artefact] = {
    "wheel": Artefact(python.build, ("tocsin-{version}-py3-none-any.whl", "tocsin-{version}.tar.gz")),
    "constraints": Artefact(python.build_constraints, ("tocsin-{version}-constraints.txt",), ("wheel",)),
    "deb": Artefact(linux.build_deb, ("tocsin_{version}-1_*.deb",), ("wheel",)),
    "rpm": Artefact(linux.build_rpm, ("tocsin-{version}-1.*.rpm",), ("wheel",)),
    "kubernetes": Artefact(kubernetes.build_manifests, ("tocsin-{version}-kubernetes.tar.gz",)),
    "chart": Artefact(kubernetes.build_chart, ("tocsin-{version}-chart.tgz",)),
    "context": Artefact(
        container.build_context, (container.CONTEXT.name,), ("wheel", "constraints"), container.CONTEXT.parent
    ),
    "image": Artefact(container.build, ("tocsin-{version}-image-*.tar.gz",), ("context",)),
    "sbom": Artefact(sbom.build, ("tocsin-{version}-sbom.cdx.json",), ("wheel", "constraints")),
    "image-sbom": Artefact(sbom.build_for_image, ("tocsin-{version}-image-*-sbom.cdx.json",), ("image", "sbom")),
    "airgap": Artefact(
        airgap.build, ("tocsin-{version}-airgap-*.tar",), ("wheel", "constraints", "image", "sbom", "image-sbom")
    ),
    # Whatever is built comes before these.
    "checksums": Artefact(checksums.build, (checksums.NAME,)),
    "signature": Artefact(checksums.sign, (checksums.SIGNATURE,), ("checksums",)),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description="Builds the artefacts of a release.")
    arguments.add_argument("only", nargs="*", metavar="ARTEFACT", help=f"of {', '.join(ARTEFACTS)}; default: all")
    arguments.add_argument("--out", type=Path, default=bring.ROOT / "dist", metavar="FOLDER")
    arguments.add_argument("--release", action="store_true", help="refuse what cannot be published")
    arguments.add_argument(
        "--notes", action="store_true", help="refuse it, write build/release-notes.md, and build nothing"
    )
    given = arguments.parse_args()
    if unknown := [name for name in given.only if name not in ARTEFACTS]:
        arguments.error(f"unknown: {', '.join(unknown)}; known: {', '.join(ARTEFACTS)}")
    if (given.release or given.notes) and (problems := release_problems()):
        sys.exit("\n".join(f"dist: {problem}" for problem in problems))
    if given.notes:
        target = bring.ROOT / "build" / "release-notes.md"
        target.parent.mkdir(exist_ok=True)
        target.write_text(release.notes(release.version()))
        return
    if not given.only and (problems := translations.release_problems()):
        sys.exit("\n".join(f"dist: {problem}" for problem in problems))
    debian.bring_for_dist()
    status = build_all(release.version(), given.out.absolute(), given.only)
    if lacking := addresses.missing(addresses.read()):
        print(f"\nA publication still needs, in packaging/addresses.toml: {', '.join(lacking)}.")
    sys.exit(status)


def release_problems() -> list[str]:
    """Why this tree cannot be published."""
    problems = translations.release_problems()
    if lacking := addresses.missing(addresses.read()):
        problems.append(f"packaging/addresses.toml has no real {', '.join(lacking)}")
    if not os.environ.get(checksums.KEY_VARIABLE):
        problems.append(f"{checksums.KEY_VARIABLE} names no secret key of minisign: a release is signed")
    try:
        notes = release.notes(release.version())
    except bring.CannotGoOn as problem:
        problems.append(str(problem))
    else:
        if "unreleased" in notes.splitlines()[0]:
            problems.append("the section of CHANGELOG.md has no date yet")
    tag = os.environ.get("GITHUB_REF_NAME", "")
    if tag.startswith("v") and tag != f"v{release.version()}":
        problems.append(f"the tag {tag} is not that of version {release.version()}")
    return problems


def build_all(version: str, out: Path, only: Iterable[str] = ()) -> int:
    """Builds all artefacts into an emptied folder, or some into the folder as it is. Returns the exit code."""
    if _has_changes():
        print("dist: the work tree has changes that are in no commit; they are in what is built", flush=True)
    if not only:
        shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    results = [_build(name, version, out) for name in select(version, out, only)]
    print()
    for name, outcome, seconds in results:
        print(f"{outcome:8}{seconds:6.1f} s  {name}")
        for path in written(name, version, out) if outcome == "built" else []:
            print(f"{'':18}{size(path) / 1e6:8.1f} MB  {path.name}")
    return 1 if any(outcome == "FAILED" for _, outcome, _ in results) else 0


def select(version: str, out: Path, only: Iterable[str]) -> list[str]:
    """The artefacts to build, in order: all, or those named and whatever they need that is not in the folder."""
    selected = set(only or ARTEFACTS)
    for name in reversed(ARTEFACTS):
        if name in selected:
            selected.update(need for need in ARTEFACTS[name].needs if not written(need, version, out))
    return [name for name in ARTEFACTS if name in selected]


def written(name: str, version: str, out: Path) -> list[Path]:
    """The artefact's files that are in the folder."""
    folder = ARTEFACTS[name].folder or out
    return sorted(path for glob in ARTEFACTS[name].files for path in folder.glob(glob.format(version=version)))


def size(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _build(name: str, version: str, out: Path) -> tuple[str, str, float]:
    """(name, outcome, seconds)"""
    print(f"── {name}", flush=True)
    began = time.monotonic()
    for path in written(name, version, out):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    try:
        if missing := [need for need in ARTEFACTS[name].needs if not written(need, version, out)]:
            raise bring.CannotGoOn(f"needs {', '.join(missing)}")
        ARTEFACTS[name].build(version, out)
        outcome = "built"
    except release.Skipped as reason:
        outcome = "skipped"
        print(f"{name}: {reason}", flush=True)
    except bring.CannotGoOn as problem:
        outcome = "FAILED"
        print(f"{name}: {problem}", flush=True)
    return name, outcome, time.monotonic() - began


def _has_changes() -> bool:
    command = ["git", "-C", str(bring.ROOT), "status", "--porcelain"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode == 0 and bool(done.stdout)


if __name__ == "__main__":
    main()
