"""`make dist` itself: which artefacts it builds, and how it says what it left out."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import addresses
import bring
import pytest
from builders import checksums, container, kubernetes, linux, release

from scripts import dist, rehearse_release


def _artefacts(monkeypatch: pytest.MonkeyPatch, **artefacts: dist.Artefact) -> None:
    monkeypatch.setattr(dist, "ARTEFACTS", artefacts)


def _write(version: str, out: Path) -> None:
    (out / f"base-{version}").write_text("built")


def _skip(version: str, out: Path) -> None:
    raise release.Skipped("there is no key")


def _fail(version: str, out: Path) -> None:
    raise bring.CannotGoOn("buildah is missing")


def test_part_is_built_with_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    base, other = dist.Artefact(_write, ("base-{version}",)), dist.Artefact(_write, ("other",))
    _artefacts(monkeypatch, base=base, other=other, part=dist.Artefact(_write, ("part",), needs=("base",)))
    assert dist.select("1.0", tmp_path, ["part"]) == ["base", "part"]
    _write("1.0", tmp_path)
    assert dist.select("1.0", tmp_path, ["part"]) == ["part"]
    assert dist.select("1.0", tmp_path, []) == ["base", "other", "part"]


def test_skipped_artefact_says_why_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _artefacts(monkeypatch, base=dist.Artefact(_write, ("base-*",)), signature=dist.Artefact(_skip, ("*.sig",)))
    assert dist.build_all("1.0", tmp_path) == 0
    assert "signature: there is no key" in capsys.readouterr().out


def test_failed_artefact_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = dist.Artefact(_write, ("bundle",), needs=("image",))
    base = dist.Artefact(_write, ("base-*",))
    _artefacts(monkeypatch, image=dist.Artefact(_fail, ("image",)), bundle=bundle, base=base)
    assert dist.build_all("1.0", tmp_path) == 1
    said = capsys.readouterr().out
    assert "image: buildah is missing" in said
    assert "bundle: needs image" in said
    assert (tmp_path / "base-1.0").read_text() == "built"


def test_whole_build_leaves_nothing_of_an_older_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _artefacts(monkeypatch, base=dist.Artefact(_write, ("base-*",)))
    (tmp_path / "base-0.9").write_text("old")
    dist.build_all("1.0", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["base-1.0"]


def test_version_is_that_of_the_package() -> None:
    import tocsin

    assert release.version() == tocsin.__version__


ADDRESSES = {
    "repository": "https://git.tocsin.dev/tocsin",
    "documentation": "https://docs.tocsin.dev",
    "image": "images.tocsin.dev/tocsin",
    "package": "tocsin-pager",
    "maintainer": "hello@tocsin.dev",
    "public_key": "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3",
}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The addresses as they are once Tocsin is published."""
    known = dict(ADDRESSES)
    monkeypatch.setattr(addresses, "read", lambda: known)
    return known


@pytest.mark.parametrize("document", addresses.DOCUMENTS)
def test_documents_say_what_the_addresses_make_true(document: str) -> None:
    text = (bring.ROOT / document).read_text()
    assert "<!-- addresses: " in text
    assert addresses.written(text, addresses.read()) == text, "run `make reference`"


@pytest.mark.parametrize("document", addresses.DOCUMENTS)
def test_documents_of_a_published_version_need_no_folder(document: str) -> None:
    text = addresses.written((bring.ROOT / document).read_text(), ADDRESSES)
    assert not re.findall(r"not published|no package index|tocsin-\S*\.whl|--find-links", text)
    assert any(value in text for value in ADDRESSES.values())


def test_addresses_are_in_every_artefact(known: dict[str, str], tmp_path: Path) -> None:
    description = linux._description(linux.DEB, "1.0", tmp_path)
    assert (description["maintainer"], description["homepage"]) == (
        "The Tocsin authors <hello@tocsin.dev>", "https://docs.tocsin.dev",
    )  # fmt: skip
    assert container.labels()["source"] == known["repository"]
    kubernetes.build_chart("1.0", tmp_path)
    with tarfile.open(tmp_path / "tocsin-1.0-chart.tgz") as chart:
        files = {
            name: (chart.extractfile(f"tocsin/{name}") or io.BytesIO()).read().decode()
            for name in ("Chart.yaml", "values.yaml")
        }
    assert "home: https://docs.tocsin.dev" in files["Chart.yaml"]
    assert "repository: images.tocsin.dev/tocsin" in files["values.yaml"]


@pytest.mark.parametrize(
    "value", ["", "https://example.org/tocsin", "<repository>", "https://tocsin.invalid", "a@tocsin.dev"]
)
def test_release_refuses_a_placeholder(
    known: dict[str, str], value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(checksums.KEY_VARIABLE, str(tmp_path))
    monkeypatch.setattr(release, "notes", lambda version: f"## [{version}] - 2026-12-24\n")
    assert dist.release_problems() == []
    known["repository"] = value
    assert dist.release_problems() == ["packaging/addresses.toml has no real repository"]


def test_release_needs_a_key_a_date_and_its_tag(known: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(checksums.KEY_VARIABLE, raising=False)
    monkeypatch.setenv("GITHUB_REF_NAME", "v99.0")
    monkeypatch.setattr(release, "notes", lambda version: f"## [{version}] - unreleased\n")
    assert [problem.split(" ")[0] for problem in dist.release_problems()] == [checksums.KEY_VARIABLE, "the", "the"]


def test_release_notes_are_the_versions_section() -> None:
    notes = release.notes(release.version())
    assert notes.startswith(f"## [{release.version()}]")
    assert notes.count("\n## ") == 0
    with pytest.raises(bring.CannotGoOn):
        release.notes("99.0")


def test_what_is_uploaded_is_files_only() -> None:
    out = bring.ROOT / "dist"
    folders = {name for name, artefact in dist.ARTEFACTS.items() if artefact.folder is not None}
    assert folders == {"context"}
    assert not container.CONTEXT.is_relative_to(out)


def test_release_workflow_signs_what_both_machines_built() -> None:
    workflow = rehearse_release.WORKFLOW.read_text()
    jobs = dict(rehearse_release.jobs(workflow))
    assert list(jobs) == ["draft", "build", "sign"]
    machines = jobs["build"]["strategy"]["matrix"]["include"]
    first, second = ([dist.ARTEFACTS[name] for name in machine["only"].split()] for machine in machines)
    assert len(first) == len(dist.ARTEFACTS) - len({"context", "checksums", "signature"})
    assert all(artefact in first for artefact in second)
    assert 'RELEASE=1 ONLY="checksums signature"' in jobs["sign"]["steps"][-2]["run"]
    assert "--notes-file build/release-notes.md" in workflow
    assert rehearse_release.expand("x ${{ matrix.only }}", {"matrix.only": "deb"}) == "x deb"


@pytest.mark.long
@pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("mmdebstrap", "minisign"))),
    reason="needs root, mmdebstrap, minisign",
)
def test_rehearsal_leaves_a_signed_draft(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "scripts/rehearse_release.py",
        "--only",
        "wheel constraints kubernetes chart",
        tmp_path / "draft",
    ]
    done = subprocess.run(command, cwd=bring.ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    names = {path.name for path in (tmp_path / "draft").iterdir()}
    assert {"SHA256SUMS", "SHA256SUMS.minisig", "notes.md", f"tocsin-{release.version()}-py3-none-any.whl"} <= names
