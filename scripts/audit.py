"""`make audit`: what can be said offline about the safety of the code and of everything that Tocsin depends on.

Checks that every requirement is pinned by hash, that the lock files name no registry, that every licence is allowed,
that the workflows pin what they run, and that bandit finds nothing in the code that has no reason beside it.
Known vulnerabilities are looked up outside, by .github/workflows/audit.yml: their databases are on the internet.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"

#: Licences under which a dependency may be used beside Apache-2.0 code, as SPDX, npm and PyPI's classifiers name them.
#: Of the weak copyleft ones (LGPL, MPL) the packages are used unchanged.
ALLOWED = frozenset(
    {
        "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BlueOak-1.0.0", "CC0-1.0", "ISC", "MIT", "MIT-0",
        "OFL-1.1", "PSF-2.0", "LGPL-3.0-only", "LGPL-3.0-or-later", "MPL-2.0",
        "3-Clause BSD License", "Apache Software License", "BSD License", "ISC License (ISCL)", "MIT License",
        "Mozilla Public License 2.0 (MPL 2.0)", "Python Software Foundation License",
        "GNU Lesser General Public License v3 or later (LGPLv3+)", "OSI Approved", "Unlicense",
        "The Unlicense (Unlicense)",
    }
)  # fmt: skip

#: Packages whose metadata does not say it, and what their licence file says.
LOOKED_UP = {
    "axe-playwright-python": "MIT",
    "pagerduty": "MIT",
    "node_modules/parse-cache-control": "BSD-3-Clause",
    "qrcode": "BSD-3-Clause",
    "scim2-tester": "Apache-2.0",
}

_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[a-z0-9,-]+\])?==[^\s;]+(\s*;.*)?")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
_INTEGRITY = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")
#: An action at a commit, or an image by its digest.
_USED = re.compile(r"^\s*(?:-\s*)?(?:uses|image):\s*(\S+)", re.MULTILINE)
_FIXED = re.compile(r"@[0-9a-f]{40}$|@sha256:[0-9a-f]{64}$|^\./")

_NOT_OURS = re.compile(r"index-url|find-links|https?://|git\+")


def main() -> None:
    failed = False
    for name, check in {
        "requirements": requirements,
        "browser parts": browser_parts,
        "licences": licences,
        "workflows": workflows,
        "bandit": code,
    }.items():
        began = time.monotonic()
        problems = list(check())
        failed = failed or bool(problems)
        print(f"{'FAILED' if problems else 'passed':8}{time.monotonic() - began:6.1f} s  {name}")
        for problem in problems:
            print(f"    {problem}")
    sys.exit(1 if failed else 0)


def requirements(folder: Path = REQUIREMENTS) -> Iterator[str]:
    """What is not pinned by hash. A requirement's lines are joined by backslashes."""
    for file in sorted(folder.glob("*.txt")):
        text = "\n".join(line for line in file.read_text().splitlines() if not line.lstrip().startswith("#"))
        for line in text.replace("\\\n", " ").splitlines():
            if not line.strip():
                continue
            words = line.split(" --hash=", 1)[0].strip()
            if _NOT_OURS.search(line) or not _PIN.fullmatch(words):
                yield f"{file.name}: {words} is not pinned to a version of the registry"
            elif not _HASH.search(line):
                yield f"{file.name}: {words} has no hash"


def browser_parts(file: Path = ROOT / "package-lock.json") -> Iterator[str]:
    """What package-lock.json does not pin by hash, or takes from an address of its own."""
    for path, package in json.loads(file.read_text())["packages"].items():
        if path == "":
            yield from (
                f"package.json: {name} is not one exact version"
                for group in ("dependencies", "devDependencies", "optionalDependencies")
                for name, version in package.get(group, {}).items()
                if not re.fullmatch(r"\d+\.\d+\.\d+", version)
            )
            continue
        if not _INTEGRITY.fullmatch(package.get("integrity", "")):
            yield f"{path} has no sha512 hash"
        if "resolved" in package:
            yield f"{path} names the address it came from"


def licences() -> Iterator[str]:
    """Packages of this environment and of package-lock.json whose licence is not allowed, or not known."""
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name != "tocsin" and not is_allowed(licence := _licence(distribution)):
            yield f"{name}: {licence or 'no licence is named'}"
    for path, package in json.loads((ROOT / "package-lock.json").read_text())["packages"].items():
        if path and not is_allowed(licence := LOOKED_UP.get(path) or package.get("license", "")):
            yield f"{path}: {licence or 'no licence is named'}"


def is_allowed(expression: str) -> bool:
    """Whether an SPDX expression, without nested parentheses, can be met with allowed licences."""
    parts = re.sub(r"^\((.*)\)$", r"\1", expression.strip()).split(" AND ")
    return all(any(choice in ALLOWED for choice in part.split(" OR ")) for part in parts)


def _licence(distribution: metadata.Distribution) -> str:
    package_metadata = distribution.metadata
    if expression := LOOKED_UP.get(package_metadata["Name"]) or package_metadata.get("License-Expression"):
        return str(expression)
    classifiers = [text for text in package_metadata.get_all("Classifier", []) if text.startswith("License :: ")]
    if classifiers:
        return " AND ".join(text.rsplit(" :: ", 1)[1] for text in classifiers)
    return (package_metadata.get("License") or "").strip()


def workflows(folder: Path = ROOT / ".github" / "workflows") -> Iterator[str]:
    """Actions and images that are named by a tag, which its owner can move."""
    for file in sorted(folder.glob("*.yml")):
        yield from (f"{file.name}: {used}" for used in _USED.findall(file.read_text()) if not _FIXED.search(used))


def code() -> Iterator[str]:
    """What bandit finds in the code, unless the line says why it is right: `# noqa: S…` for ruff, which has the same
    rules under the same numbers, or `# nosec B…` for bandit alone. Rules that ruff ignores everywhere are skipped."""
    command = [
        sys.executable,
        "-m",
        "bandit",
        "--quiet",
        "--recursive",
        "--format",
        "json",
        "-c",
        "pyproject.toml",
        "src",
    ]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    report = json.loads(done.stdout)
    yield from (f"{error['filename']}: {error['reason']}" for error in report["errors"])
    for result in report["results"]:
        lines = (ROOT / result["filename"]).read_text().splitlines()
        numbers = [*result["line_range"], result["line_number"]]
        text = " ".join(lines[number - 1] for number in numbers)
        if not re.search(rf"noqa:[A-Z0-9, ]*\bS{result['test_id'][1:]}\b", text):
            where = f"{result['filename']}:{result['line_number']}"
            yield f"{where}: {result['test_id']} {result['issue_text']}"


if __name__ == "__main__":
    main()
