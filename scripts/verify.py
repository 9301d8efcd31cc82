"""`make check` (--quick) and `make test`: runs every check, all of them even when one fails, and says how each ended.

The last line counts them; the exit code is 1 if any failed.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import debian

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PYTHON = sys.executable
IN_CI = bool(os.environ.get("CI"))

#: Store tests that are not run again on the distribution's server: those of the built-in one would only run the same
#: programs; the others are about what vendors send and take, or about what Django's own statements write.
SAME_ON_ANY_SERVER = (
    "audit",
    "built_in_channels",
    "catalogue_samples",
    "channels_providers",
    "chat",
    "client_tables",
    "cloudwatch_door",
    "command_line",
    "configuration_docs",
    "configure",
    "demo",
    "embedded_*",
    "halo_*",
    "imports",
    "integrations",
    "mail",
    "mail_replies",
    "oncall_changes",
    "outbound_calls",
    "people",
    "phones",
    "sample",
    "tokens",
    "vendor_doors",
    "verification",
    "web_push",
)


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    command: list[str]
    environ: dict[str, str] = field(default_factory=dict)
    # Why it cannot run here; outside CI that counts as skipped, in CI as failed.
    missing: str | None = None


def main() -> None:
    is_quick = "--quick" in sys.argv[1:]
    with ThreadPoolExecutor(1) as beside:
        # It mostly waits for the network and the disk.
        brought = None if is_quick else beside.submit(debian.bring)
        results = together(quick())
        if brought is not None:
            brought.result()
            results += [(check, *run(check)) for check in thorough()]
    print()
    for check, outcome, seconds in results:
        print(f"{outcome:8}{seconds:6.1f} s  {check.name}{f': {check.missing}' if check.missing else ''}")
    count: Callable[[str], int] = [outcome for _, outcome, _ in results].count
    skipped = f", {count('skipped')} skipped" if count("skipped") else ""
    print(f"\nchecks: {count('passed')} passed, {count('FAILED')} failed{skipped}", flush=True)
    sys.exit(1 if count("FAILED") else 0)


def together(checks: list[Check]) -> list[tuple[Check, str, float]]:
    """Runs checks two at a time, and prints what each says when its turn comes. The longest begins first."""
    with ThreadPoolExecutor(2) as pool:
        running = {check.name: pool.submit(_quietly, check) for check in reversed(checks)}
        results = []
        for check in checks:
            outcome, seconds, said = running[check.name].result()
            print(f"\n── {check.name}\n{said}", end="", flush=True)
            results.append((check, outcome, seconds))
    return results


def _quietly(check: Check) -> tuple[str, float, str]:
    began = time.monotonic()
    done = subprocess.run(
        check.command, cwd=ROOT, env=_environ(check), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return ("passed" if done.returncode == 0 else "FAILED"), time.monotonic() - began, done.stdout


def quick() -> list[Check]:
    """What needs neither a database nor a server."""
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


def thorough() -> list[Check]:
    """What starts servers, a browser and the built package."""
    # Which tests take longest is seen each time, so that all of them stay within a quarter of an hour.
    pytest = [PYTHON, "-m", "pytest", "-q", "--durations=20"]
    # Whole processes and a browser have limits of time: they get the machine for themselves. Of three other tests, one
    # always waits for its PostgreSQL.
    alone = ["tests/smoke", "tests/browser"]
    others = ["tests", *(f"--ignore={folder}" for folder in alone)]
    distribution = debian.postgres_folder()
    return [
        Check("tests", [*pytest, "-n", "3", *others]),
        Check("tests of the whole system", [*pytest, "-n", "2", "--dist", "worksteal", *alone]),
        Check(
            f"store tests on {distribution or 'the distribution'}",
            [*pytest, "-n", "3", "tests/store", *(f"--ignore-glob=*/test_{name}.py" for name in SAME_ON_ANY_SERVER)],
            {"TOCSIN_TEST_POSTGRES_BIN": str(distribution)},
            None if distribution else f"no PostgreSQL server {debian.OLDEST_POSTGRES} or later in /usr/lib/postgresql",
        ),
        Check("wheel", [PYTHON, "scripts/wheel_smoke.py"]),
        Check("audit", [PYTHON, "scripts/audit.py"]),
    ]


def run(check: Check) -> tuple[str, float]:
    """(passed, FAILED or skipped, seconds)"""
    print(f"\n── {check.name}", flush=True)
    if check.missing:
        print(check.missing)
        return ("FAILED" if IN_CI else "skipped"), 0.0
    began = time.monotonic()
    code = subprocess.run(check.command, cwd=ROOT, env=_environ(check), stdin=subprocess.DEVNULL).returncode
    return ("passed" if code == 0 else "FAILED"), time.monotonic() - began


def _environ(check: Check) -> dict[str, str]:
    """A developer's own settings must not change what is tested, nor have each process compile every module again."""
    own = ("TOCSIN_", "PYTHONDONTWRITEBYTECODE")
    return {key: value for key, value in os.environ.items() if not key.startswith(own)} | check.environ


if __name__ == "__main__":
    main()
