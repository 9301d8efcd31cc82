"""Prints the files of `src/tocsin` that each main path passes, in the order in which it enters them.

The paths are the stories of `tests/store/test_paths.py`: a message until its answer, a page until its acknowledgement.
An edge is a call from a function in one file to a function in another. Imports are not counted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = f"{ROOT / 'src' / 'tocsin'}/"
STORIES = "tests/store/test_paths.py"


class PathTracer:
    """The plugin that traces every thread while a test's body runs."""

    def __init__(self) -> None:
        self._files: dict[str, None] = {}
        self._edges: set[tuple[str, str]] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        monitoring = sys.monitoring
        self._files, self._edges = {}, set()
        monitoring.use_tool_id(monitoring.PROFILER_ID, "paths")
        monitoring.register_callback(monitoring.PROFILER_ID, monitoring.events.PY_START, self._on_start)
        monitoring.set_events(monitoring.PROFILER_ID, monitoring.events.PY_START)
        try:
            yield
        finally:
            monitoring.set_events(monitoring.PROFILER_ID, 0)
            monitoring.free_tool_id(monitoring.PROFILER_ID)
        print(f"\n\n{item.name}: {len(self._files)} files, {len(self._edges)} edges\n")
        print("\n".join(f"  {name}" for name in self._files))

    def _on_start(self, code: CodeType, _offset: int) -> None:
        name = _name(code.co_filename)
        if name is None:
            return
        before: str | None = None
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_name == "<module>" and _name(frame.f_code.co_filename):
                return  # a module that is imported while a path runs
            before = before or (_name(frame.f_code.co_filename) if frame.f_code is not code else None)
            frame = frame.f_back
        self._files.setdefault(name)
        if before is not None and before != name:
            self._edges.add((before, name))


def _name(path: str) -> str | None:
    return path.removeprefix(PACKAGE) if path.startswith(PACKAGE) else None


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(pytest.main(["-q", "-s", "-p", "no:xdist", str(ROOT / STORIES)], plugins=[PathTracer()]))
