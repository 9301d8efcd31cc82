"""`make dist` itself: which artefacts it builds, and how it says what it left out."""

from __future__ import annotations

from pathlib import Path

import bring
import pytest
from builders import release

from scripts import dist


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
