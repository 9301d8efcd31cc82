"""A node at rest with its embedded PostgreSQL: the processor time that it takes, and the statements that cost it.

The statements are counted in a second measurement, because PostgreSQL's log of them costs time itself.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg

from benchmarks.harness import SECONDS, Served, database, report, tocsin

#: What runs once after a start, such as the first self-check, is left out.
SETTLE = 20 if SECONDS > 1 else 1
MEASURED = max(60, SECONDS) if SECONDS > 1 else 2
#: The most that a node at rest may take, as a share of a core.
MOST = 0.01
_SHOWN = 25
_STATEMENT = re.compile(r"\[\d+\] (?P<who>.*?) LOG:  (?:statement|execute \S+): (?P<text>.*)")


def processes(root: int) -> Iterator[int]:
    """A process and all that it started."""
    yield root
    for task in Path(f"/proc/{root}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from processes(int(child))


def postmaster(served: Served) -> int:
    """The embedded PostgreSQL's first process, which is no child of the node's."""
    (file,) = served.data_dir.rglob("postmaster.pid")
    return int(file.read_text().splitlines()[0])


def used(root: int) -> Counter[str]:
    """Seconds of processor time, and how often a thread went to sleep, of these processes."""
    total = Counter[str]()
    for pid in processes(root):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total["seconds"] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # type: ignore[assignment]
        for task in Path(f"/proc/{pid}/task").iterdir():
            status = (task / "status").read_text()
            total["sleeps"] += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return total


def statements(served: Served, connection: psycopg.Connection) -> Counter[str]:
    """Counts the statements of one period by their beginning, transactions' ends included."""
    files = list(served.data_dir.rglob("log/postgresql-*.log"))
    begin = {file: file.stat().st_size for file in files}
    connection.execute("ALTER SYSTEM SET log_statement = 'all'")
    connection.execute("SELECT pg_reload_conf()")
    time.sleep(MEASURED)
    connection.execute("ALTER SYSTEM RESET log_statement")
    connection.execute("SELECT pg_reload_conf()")
    counts = Counter[str]()
    for file in served.data_dir.rglob("log/postgresql-*.log"):
        text = file.read_bytes()[begin.get(file, 0) :].decode(errors="replace")
        # A statement's further lines are indented.
        for line in re.sub(r"\n\t[ \t]*", " ", text).splitlines():
            if (match := _STATEMENT.search(line)) is not None and match["who"].startswith("tocsin"):
                counts[" ".join(match["text"].split())] += 1
    return counts


def main() -> None:
    """Measures, and then counts."""
    with tocsin() as served, database(served) as connection:
        time.sleep(SETTLE)
        roots = {"node": served.process.pid, "PostgreSQL": postmaster(served)}
        before = {name: used(pid) for name, pid in roots.items()}
        time.sleep(MEASURED)
        spent = {name: {key: used(pid)[key] - before[name][key] for key in before[name]} for name, pid in roots.items()}
        counts = statements(served, connection)
    a_minute = 60 / MEASURED
    share = sum(one["seconds"] for one in spent.values()) / MEASURED
    report(
        "idle",
        {"share of a core, %": 100 * share}
        | {f"{name}, %": 100 * one["seconds"] / MEASURED for name, one in spent.items()}
        | {f"{name}, wake-ups a minute": round(one["sleeps"] * a_minute) for name, one in spent.items()}
        | {"statements a minute": round(counts.total() * a_minute)}
        | {f"a minute: {text[:110]}": round(count * a_minute) for text, count in counts.most_common(_SHOWN)},
        {f"at most {MOST:.0%} of a core": share <= MOST},
    )


if __name__ == "__main__":
    main()
