"""`make audit`: this tree passes, and unpinned, unhashed or disallowed dependencies are reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import audit

HASH = f"--hash=sha256:{'0' * 64}"


def test_this_tree_is_pinned_hashed_and_licensed() -> None:
    checks = (audit.requirements, audit.browser_parts, audit.licences, audit.workflows)
    assert [problem for check in checks for problem in check()] == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (f"uv==0.13.9 \\\n    {HASH}", ""),
        (f'psycopg[binary]==3.3.2 ; python_version < "3.14" \\\n    {HASH}', ""),
        ("uv==0.13.9", "uv==0.13.9 has no hash"),
        (f"uv>=0.13.9 {HASH}", "uv>=0.13.9 is not pinned to a version of the registry"),
        (f"uv {HASH}", "uv is not pinned to a version of the registry"),
        (
            "uv @ https://example.org/uv.whl",
            "uv @ https://example.org/uv.whl is not pinned to a version of the registry",
        ),
        (
            "--index-url https://example.org",
            "--index-url https://example.org is not pinned to a version of the registry",
        ),
    ],
)
def test_requirement_without_version_or_hash_is_reported(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "runtime.txt").write_text(f"# comment\n{line}\n    # via something\n")
    assert list(audit.requirements(tmp_path)) == ([f"runtime.txt: {problem}"] if problem else [])


def test_browser_package_without_hash_is_reported(tmp_path: Path) -> None:
    lock = tmp_path / "package-lock.json"
    good = {"version": "1.0.0", "integrity": f"sha512-{'A' * 86}=="}
    packages = {
        "": {"dependencies": {"good": "1.0.0", "loose": "^1.0.0"}},
        "node_modules/good": good,
        "node_modules/bare": {"version": "1.0.0"},
        "node_modules/named": {**good, "resolved": "https://example.org/named.tgz"},
    }
    lock.write_text(json.dumps({"packages": packages}))
    assert list(audit.browser_parts(lock)) == [
        "package.json: loose is not one exact version",
        "node_modules/bare has no sha512 hash",
        "node_modules/named names the address it came from",
    ]


@pytest.mark.parametrize(
    ("expression", "is_allowed"),
    [
        ("MIT", True),
        ("(MIT OR GPL-3.0-only)", True),
        ("MIT AND PSF-2.0", True),
        ("MIT AND GPL-3.0-only", False),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("AGPL-3.0-only", False),
        ("", False),
    ],
)
def test_only_allowed_licences_pass(expression: str, is_allowed: bool) -> None:
    assert audit.is_allowed(expression) is is_allowed


def test_workflow_action_pinned_by_tag_is_reported(tmp_path: Path) -> None:
    (tmp_path / "ci.yml").write_text(
        f"steps:\n  - uses: some/action@v4\n  - uses: some/action@{'a' * 40}\n    image: python:3.13\n"
    )
    assert list(audit.workflows(tmp_path)) == ["ci.yml: some/action@v4", "ci.yml: python:3.13"]
