"""One JSON line a run in build/prove, so that a long proof goes on where it stopped, and the table at the end."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from tests.prove.ledger import MAX_REPEATED_SHARE, Counts

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "prove"

_HEADER = (
    "| fault | runs | answered | lost | opened twice | never paged | paged twice | until pages, p50 | slowest "
    "| page, p95 | slowest | same id |\n"
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


@dataclass(frozen=True, slots=True)
class Record:
    """One run as a line of JSON. `code` identifies the source that ran: lines of other sources do not count."""

    scenario: str
    run: int
    seed: int
    what: str
    detail: str
    counts: Counts
    load: float
    commit: str
    code: str
    machine: str
    at: str

    def line(self) -> str:
        """The record as one line of JSON."""
        fields = asdict(self)
        counts = fields.pop("counts")
        return json.dumps({**fields, **counts})


def make_record(scenario: str, run: int, seed: int, what: str, detail: str, counts: Counts) -> Record:
    """A record of this source on this machine at this moment."""
    return Record(
        scenario, run, seed, what, detail, counts, round(os.getloadavg()[0], 1), commit(), code(), machine(),
        datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip


def append(record: Record) -> None:
    """Writes a line that survives the end of this process."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{record.scenario}.jsonl").open("a") as file:
        file.write(f"{record.line()}\n")


def read(scenario: str) -> list[Record]:
    """The runs of this very source."""
    path = FOLDER / f"{scenario}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [record for record in map(_parse, lines) if record.code == code()]


def _parse(line: str) -> Record:
    fields: dict[str, Any] = json.loads(line)
    counts = Counts(**{name: fields.pop(name) for name in Counts.__dataclass_fields__})
    return Record(**fields, counts=counts)


def table(records: Iterable[Record]) -> str:
    """A Markdown table: a row for each kind of fault, and their sum.

    "until pages": from the fault until the first page about a message that was answered after it. "page": from a
    message's answer to its page, in the worst run. "same id": of the tickets paged twice, those whose repeat has the
    same Message-ID.
    """
    by_fault: dict[str, list[Record]] = {}
    for record in records:
        by_fault.setdefault(f"{record.scenario}: {record.what}", []).append(record)
    rows = [_row(name, members) for name, members in by_fault.items()]
    everything = [record for members in by_fault.values() for record in members]
    return "\n".join([_HEADER, *rows, _row("**all**", everything)])


def _row(name: str, records: list[Record]) -> str:
    seconds = [record.counts.seconds for record in records if record.counts.seconds is not None]
    cells = [name, str(len(records)), *(str(sum(getattr(record.counts, field) for record in records)) for field in (
        "answered", "lost", "opened_twice", "never_paged", "paged_twice",
    ))]  # fmt: skip
    p95 = [record.counts.page_p95 for record in records if record.counts.page_p95 is not None]
    longest = [record.counts.page_max for record in records if record.counts.page_max is not None]
    times = [f"{statistics.median(seconds):.1f} s", f"{max(seconds):.1f} s"] if seconds else ["never", "never"]
    times += [f"{max(p95):.1f} s", f"{max(longest):.1f} s"] if longest else ["never", "never"]
    repeats = sum(record.counts.paged_twice for record in records)
    same_id = repeats - sum(record.counts.separate_pages for record in records)
    times.append(f"{same_id / repeats:.0%}" if repeats else "-")
    return f"| {' | '.join([*cells, *times])} |"


def problems(records: Iterable[Record]) -> list[str]:
    """What breaks the promise, one sentence each; empty if it was kept."""
    everything = list(records)
    results = [
        f"{record.scenario} run {record.run} ({record.what}): {_describe(record.counts)}"
        for record in everything
        if not record.counts.is_held
    ]
    answered = sum(record.counts.answered for record in everything)
    repeated = sum(record.counts.paged_twice for record in everything)
    if repeated > answered * MAX_REPEATED_SHARE:
        results.append(f"{repeated} of {answered} messages were paged twice, more than {MAX_REPEATED_SHARE:.0%}")
    return results


def _describe(counts: Counts) -> str:
    names = ("lost", "opened_twice", "never_paged", "separate_pages")
    broken = [f"{getattr(counts, name)} {name.replace('_', ' ')}" for name in names if getattr(counts, name)]
    return ", ".join([*broken, *(["no page was sent after the fault"] if counts.seconds is None else [])])


@cache
def commit() -> str:
    """The short id of the commit that is checked out, with a plus sign if `src` differs from it."""
    return _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", "src") else "")


@cache
def code() -> str:
    """What identifies the source: the tree of `src`."""
    return _git("rev-parse", "--short=12", "HEAD:src") + ("+" if _git("status", "--porcelain", "src") else "")


@cache
def machine() -> str:
    """The processor, its cores and the memory, in a few words."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return f"{os.cpu_count()} cores, {names[0] if names else platform.machine()}, {memory:.0f} GB"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
