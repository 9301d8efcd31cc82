"""Ingest: HaloITSM messages stored, decided and committed before the answer, against a server that answers nothing."""

from __future__ import annotations

from benchmarks.harness import TOKEN, halo_script, noop, report, tocsin, wrk


def main() -> None:
    """New tickets of 1.5 kB, the same ticket again and again, and new tickets of 30 kB: 64 connections each."""
    new = halo_script(size=1_500)
    with noop() as url:
        nothing = wrk(url, new)
    with tocsin() as served:
        integration = f"{served.url}/in/{TOKEN}"
        idle = served.resident_mb()
        fresh = wrk(integration, new)
        again = wrk(integration, halo_script(size=1_500, new=False))
        large = wrk(integration, halo_script(size=30_000))
        loaded = served.resident_mb()
    ratio = 100 * fresh.per_second / nothing.per_second
    report(
        "ingest",
        {
            "no-op, per second": nothing.per_second,
            "new, per second": fresh.per_second,
            "new, % of no-op": ratio,
            "new, p50 ms": fresh.p50_ms,
            "new, p99 ms": fresh.p99_ms,
            "duplicates, per second": again.per_second,
            "30 kB, per second": large.per_second,
            "errors": fresh.errors + again.errors + large.errors,
            "resident MB, idle": idle,
            "resident MB, after": loaded,
        },
        {
            ">= 5,000 new a second": fresh.per_second >= 5_000,
            ">= 12 % of the no-op app": ratio >= 12,
            "p99 < 50 ms": fresh.p99_ms < 50,
            "duplicates >= new": again.per_second >= fresh.per_second,
            ">= 1,500 of 30 kB a second": large.per_second >= 1_500,
            "no errors": fresh.errors + again.errors + large.errors == 0,
        },
    )


if __name__ == "__main__":
    main()
