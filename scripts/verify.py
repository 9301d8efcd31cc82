"""`make check` (--quick), `make test` and `make test-all` (--all): runs every check, all of them even when one fails,
and says how each ended.

The last line counts them; the exit code is 1 if any failed.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree import ElementTree

import bring
import debian

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PYTHON = sys.executable
IN_CI = bool(os.environ.get("CI"))

#: Folders of tests. Whole processes and a browser have limits of time: no more than two of them run at once.
STORE, WEB, ALONE = "tests/store", "tests/web", ("tests/browser", "tests/smoke")
#: The artefacts of a release. Its long tests build images and clean systems: one at a time.
DIST = "tests/dist"
#: Where `make test-all` builds them.
RELEASE = "build/release"

#: Has tests start every server as users do, where `make test` forks most of them.
NEW_PROCESSES = {"TOCSIN_TEST_NEW_PROCESSES": "1"}

#: How pytest distributes tests. Of three other tests, one always waits for its PostgreSQL.
TWO, THREE = ("-n", "2", "--dist", "worksteal"), ("-n", "3", "--dist", "worksteal")

NO_POSTGRES = f"no PostgreSQL server {debian.MIN_POSTGRES_MAJOR} or later in /usr/lib/postgresql"

#: How many reason codes may be produced by no test. Only ever lowered.
MAX_UNPRODUCED_REASONS = 0

#: How many of the slowest tests, and files of tests, are listed at the end.
SLOWEST = 20


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    command: list[str]
    environ: dict[str, str] = field(default_factory=dict)
    # Why it cannot run here; outside CI that counts as skipped, in CI as failed.
    missing: str | None = None


def main() -> None:
    arguments = sys.argv[1:]
    is_quick = "--quick" in arguments
    *brief, longest = quick()
    with ThreadPoolExecutor(2) as beside, tempfile.TemporaryDirectory() as folder:
        # The tests begin before the longest of the quick checks ends.
        last = beside.submit(_quietly, longest)
        # It mostly waits for the network and the disk.
        future = (
            None
            if is_quick
            else beside.submit(debian.bring, for_proof="--all" in arguments, for_long="--all" in arguments)
        )
        results = [(check, *run(check)) for check in brief]
        if future is not None:
            future.result()
            if "--all" in arguments:
                bring.browser_parts(bring.uv(), with_optional=True)
                results += [(check, *run(check)) for check in long(Path(folder))]
            else:
                results += at_once(*thorough(Path(folder)))
        results.append((longest, *_shown(longest, *last.result())))
        durations = read_durations(Path(folder))
    for what, slowest in (("tests", durations[:SLOWEST]), ("files", by_file(durations)[:SLOWEST])):
        if slowest:
            print(f"\nThe {SLOWEST} slowest {what}")
            print("\n".join(f"{seconds:6.1f} s  {name}" for seconds, name in slowest))
    print()
    for check, outcome, seconds in results:
        print(f"{outcome:8}{seconds:6.1f} s  {check.name}{f': {check.missing}' if check.missing else ''}")
    count: Callable[[str], int] = [outcome for _, outcome, _ in results].count
    skipped = f", {count('skipped')} skipped" if count("skipped") else ""
    print(f"\nchecks: {count('passed')} passed, {count('FAILED')} failed{skipped}", flush=True)
    sys.exit(1 if count("FAILED") else 0)


def at_once(quiet: Check, shown: Check) -> list[tuple[Check, str, float]]:
    """Runs two checks at once. Prints the output of `shown` as it comes, and then that of `quiet`."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(_quietly, quiet)
        second = run(shown)
        return [(quiet, *_shown(quiet, *running.result())), (shown, *second)]


def _shown(check: Check, outcome: str, seconds: float, output: str) -> tuple[str, float]:
    """Prints what a check said that ran beside others."""
    print(f"\n── {check.name}\n{output}", end="", flush=True)
    return outcome, seconds


def _quietly(check: Check) -> tuple[str, float, str]:
    if check.missing:
        return _outcome_if_missing(), 0.0, f"{check.missing}\n"
    began = time.monotonic()
    done = subprocess.run(
        check.command, cwd=ROOT, env=_environ(check), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return ("passed" if done.returncode == 0 else "FAILED"), time.monotonic() - began, done.stdout


def quick() -> list[Check]:
    """What needs neither a database nor a server; the longest is the last."""
    quiet = [PYTHON, "-W", "ignore::RuntimeWarning"]
    return [
        Check("style", [f"{BIN}/ruff", "check"]),
        Check("format", [f"{BIN}/ruff", "format", "--check"]),
        Check("compiles", [PYTHON, "-m", "compileall", "-q", "src", "tests", "scripts", "benchmarks"]),
        Check("import order", [f"{BIN}/lint-imports"]),
        Check("settings", [PYTHON, "manage.py", "check", "--fail-level", "WARNING"]),
        # Without a database it warns that it cannot compare with what has been applied; models and files is the point.
        Check("migrations", [*quiet, "manage.py", "makemigrations", "--check", "--dry-run"]),
        Check("types", [f"{BIN}/mypy"]),
    ]


def thorough(folder: Path) -> list[Check]:
    """`make test`: each test once, but for those marked `long`. `folder` takes the durations.

    The unit and store tests run on Debian's PostgreSQL, everything else on the bundled one. Both run at once: the unit
    and store tests use the processors while browsers and whole systems wait.
    """
    distribution = debian.postgres_folder()
    if distribution:
        store = Check(f"unit and store tests on {distribution}", [], _on(distribution))
    else:
        store = Check("unit and store tests on the bundled PostgreSQL", [], missing=NO_POSTGRES if IN_CI else None)
    brief = ["-m", "not long", "--hypothesis-profile=fast"]
    return [
        replace(store, command=_pytest(folder, "store", *TWO, *brief, *_ignored(WEB, *ALONE))),
        Check("web, browser and smoke tests", _pytest(folder, "system", *TWO, *brief, *ALONE, WEB)),
    ]


def long(folder: Path) -> list[Check]:
    """`make test-all`: every test, those that use a database on both servers; random walks; the documentation; the
    built package."""
    distribution = debian.postgres_folder()
    most = ["--hypothesis-profile=full"]
    reasons = [f"--reason-coverage={MAX_UNPRODUCED_REASONS}"]
    # Each day walks elsewhere. A walk that fails names its seed.
    walks = ["--seed", str(int(time.time()) // 86_400 * 100), "--walks", "30"]
    return [
        Check("unit, store and web tests", _pytest(folder, "most", *THREE, *most, *reasons, *_ignored(*ALONE, DIST))),
        Check("browser and smoke tests", _pytest(folder, "system", *TWO, *most, *ALONE), NEW_PROCESSES),
        Check(
            f"store and web tests on {distribution or 'the distribution'}",
            _pytest(folder, "distribution", *THREE, STORE, WEB),
            _on(distribution),
            None if distribution else NO_POSTGRES,
        ),
        Check("random walks", [PYTHON, "-m", "tests.model", *walks]),
        Check("fuzzing, ten seconds", [PYTHON, "-m", "tests.fuzz", "--seconds", "10"]),
        Check("proof, ten minutes", [PYTHON, "-m", "tests.prove", "--short"]),
        Check("documentation", [PYTHON, "scripts/docs_site.py"]),
        Check("artefacts", [PYTHON, "scripts/dist.py", "--out", RELEASE]),
        Check("tests of the artefacts", _pytest(folder, "dist", "-n", "0", DIST), {"TOCSIN_TEST_DIST": RELEASE}),
        Check("wheel", [PYTHON, "scripts/wheel_smoke.py"]),
        Check("audit", [PYTHON, "scripts/audit.py"]),
    ]


def _pytest(folder: Path, name: str, *arguments: str) -> list[str]:
    return [PYTHON, "-m", "pytest", "-q", f"--junitxml={folder / name}.xml", *arguments]


def _ignored(*paths: str) -> list[str]:
    """Every test but those in these folders: a new folder is never forgotten."""
    return ["tests", *(f"--ignore={path}" for path in paths)]


def _on(distribution: Path | None) -> dict[str, str]:
    return {"TOCSIN_TEST_POSTGRES_BIN": str(distribution)}


def read_durations(folder: Path) -> list[tuple[float, str]]:
    """(seconds, name) of every test in the reports of a folder, set-up included, the slowest first."""
    cases = [case for path in folder.glob("*.xml") for case in ElementTree.parse(path).iter("testcase")]
    return sorted(
        ((float(case.get("time", 0)), f"{case.get('classname')}::{case.get('name')}") for case in cases), reverse=True
    )


def by_file(durations: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """(seconds, name) of every file, the slowest first."""
    files: dict[str, float] = {}
    for seconds, name in durations:
        file = name.partition("::")[0]
        files[file] = files.get(file, 0.0) + seconds
    return sorted(((seconds, file) for file, seconds in files.items()), reverse=True)


def run(check: Check) -> tuple[str, float]:
    """(passed, FAILED or skipped, seconds)"""
    print(f"\n── {check.name}", flush=True)
    if check.missing:
        print(check.missing)
        return _outcome_if_missing(), 0.0
    began = time.monotonic()
    code = subprocess.run(check.command, cwd=ROOT, env=_environ(check), stdin=subprocess.DEVNULL).returncode
    return ("passed" if code == 0 else "FAILED"), time.monotonic() - began


def _outcome_if_missing() -> str:
    return "FAILED" if IN_CI else "skipped"


def _environ(check: Check) -> dict[str, str]:
    """A developer's own settings must not change what is tested, nor have each process compile every module again."""
    own = ("TOCSIN_", "PYTHONDONTWRITEBYTECODE")
    return {key: value for key, value in os.environ.items() if not key.startswith(own)} | check.environ


if __name__ == "__main__":
    main()
