"""A pytest plugin, `--reason-coverage MAX`: names the reason codes that no test of the run produced, and fails the run
if they are more than MAX.

A code is produced if Tocsin's own code builds its reason while tests run, or if a reason that is a constant of a module
is rendered or stored. A reason that a test builds for itself does not count.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import tocsin
from tocsin.core.reasons import Reason, Text

ROOT = Path(__file__).resolve().parents[2]
SOURCE = str(Path(tocsin.__file__).parent)

#: The codes that need no test, each with the reason.
EXEMPTIONS = ROOT / "tests" / "unproduced_reasons.toml"


class ReasonCoverage:
    """The codes produced in this process, and in the controller of pytest-xdist those of all workers."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.produced: set[str] = set()
        self.missing: list[str] = []

    def pytest_collection_finish(self) -> None:
        # What is built before is built by an import.
        record(self.produced)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["reason_codes"] = sorted(self.produced)
            return
        self.missing = sorted(defined_codes() - self.produced - tomllib.loads(EXEMPTIONS.read_text()).keys())
        if len(self.missing) > self.limit and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.produced.update(getattr(node, "workeroutput", {}).get("reason_codes", ()))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.missing:
            title = f"{len(self.missing)} reason codes were produced by no test; {self.limit} are allowed"
            terminalreporter.section(title)
            terminalreporter.line("\n".join(self.missing))


def defined_codes() -> set[str]:
    """Every code of the reference, which a test compares with the source."""
    text = (ROOT / "docs" / "reference" / "reason-codes.md").read_text()
    return set(re.findall(r"^\| `([a-z0-9_.]+)` \|", text, re.MULTILINE))


def record(produced: set[str], patch: Any = setattr) -> None:
    """Adds the codes to `produced` that are produced from now on."""
    build, render, data = Text.__call__, Reason._render, Reason.data.fget
    assert data is not None
    #: Kept, so that no other reason gets the same id.
    built_by_tests: dict[int, Reason] = {}

    def add(reason: Reason) -> None:
        if id(reason) in built_by_tests:
            return
        produced.add(reason.code)
        # Constants among its parameters, which are stored without their `data`.
        for _, value in reason.params:
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, Reason):
                    add(part)

    def recording_build(kind: Text, /, **params: Any) -> Reason:
        reason, caller = build(kind, **params), sys._getframe(1).f_code
        if not caller.co_filename.startswith(SOURCE):
            built_by_tests[id(reason)] = reason
        elif caller.co_name != "<module>":
            produced.add(kind.code)
        return reason

    def recording_render(reason: Reason, *arguments: Any) -> str:
        add(reason)
        return render(reason, *arguments)

    def recording_data(reason: Reason) -> dict[str, Any]:
        add(reason)
        return data(reason)

    patch(Text, "__call__", recording_build)
    patch(Reason, "_render", recording_render)
    patch(Reason, "data", property(recording_data))
