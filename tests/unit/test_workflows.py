"""The workflows for GitHub and GitLab: they parse, call targets of the Makefile that exist, and may do little."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
GITHUB = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
GITLAB = ROOT / ".gitlab-ci.yml"
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

#: Not jobs of .gitlab-ci.yml.
GITLAB_KEYWORDS = {"stages", "default"}


def read(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path)


def scripts() -> Iterator[tuple[str, str]]:
    """(file and job, what its steps run)"""
    for path in GITHUB:
        for name, job in read(path)["jobs"].items():
            yield f"{path.name}:{name}", "\n".join(step.get("run", "") for step in job["steps"])
    for name, job in read(GITLAB).items():
        if name not in GITLAB_KEYWORDS:
            yield f"{GITLAB.name}:{name}", "\n".join(job["script"])


def made(script: str) -> set[str]:
    return set(re.findall(r"\bmake ([a-z-]+)", script))


@pytest.mark.parametrize(("job", "script"), list(scripts()))
def test_job_makes_targets_that_exist(job: str, script: str) -> None:
    assert made(script) <= TARGETS
    # The nightly look-up is the one job that no target does: its databases are on the internet.
    assert made(script) or job == "audit.yml:audit"


def test_both_sites_make_the_same() -> None:
    github = {target for job, script in scripts() if not job.startswith(GITLAB.name) for target in made(script)}
    gitlab = {target for job, script in scripts() if job.startswith(GITLAB.name) for target in made(script)}
    assert github == gitlab == {"test", "test-all", "audit", "dist", "release-notes"}


@pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.name)
def test_workflow_reads_only_and_ends_by_itself(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 300
        assert job.get("permissions") in ((None,) if path.name != "release.yml" else ({"contents": "write"},))


def test_every_supported_python_is_tested() -> None:
    classifiers = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert (
        read(ROOT / ".github" / "workflows" / "test.yml")["jobs"]["test"]["strategy"]["matrix"]["python"] == classifiers
    )
    assert read(GITLAB)["test"]["parallel"]["matrix"] == [{"UV_PYTHON": classifiers}]


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name
)
def test_issue_form_is_readable(path: Path) -> None:
    form = read(path)
    if path.name != "config.yml":
        assert {"name", "description", "body"} <= set(form)
        identifiers = [field["id"] for field in form["body"] if field["type"] != "markdown"]
        assert len(identifiers) == len(set(identifiers)) > 0
