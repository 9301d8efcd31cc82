"""Ingest while pages are read: the rate of new messages with and without a reader of 20 pages a second."""

from __future__ import annotations

import re
import statistics
import threading
import time

import httpx

from benchmarks.harness import TOKEN, halo_script, report, sign_in, tocsin, wrk

PAGES_PER_SECOND = 20
PAGES = ("/", "/alerts/", "/inbound-log/", "/integrations/")


class Reader(threading.Thread):
    """Reads pages one after another, PAGES_PER_SECOND, until told to stop."""

    def __init__(self, client: httpx.Client) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._stopping = threading.Event()
        self.times: list[float] = []
        self.failures = 0

    def run(self) -> None:
        """Each page has its own slot of time; a late one is not made up for by a burst."""
        number = 0
        while not self._stopping.is_set():
            started_at = time.perf_counter()
            answer = self._client.get(PAGES[number % len(PAGES)])
            took = time.perf_counter() - started_at
            self.times.append(1000 * took)
            self.failures += answer.status_code != 200 or not re.search("<main", answer.text)
            number += 1
            self._stopping.wait(max(0.0, 1 / PAGES_PER_SECOND - took))

    def end(self) -> None:
        """Stops after the page that is being read."""
        self._stopping.set()
        self.join()


def main() -> None:
    """The same load three times: alone, with the reader, alone again; the ratio is taken of the mean of the two."""
    script = halo_script(size=1_500)
    with tocsin() as served, sign_in(served) as client:
        integration = f"{served.url}/in/{TOKEN}"
        wrk(integration, script, seconds=2)
        before = wrk(integration, halo_script(size=1_500))
        reader = Reader(client)
        reader.start()
        loaded = wrk(integration, halo_script(size=1_500))
        reader.end()
        after = wrk(integration, halo_script(size=1_500))
    alone = (before.per_second + after.per_second) / 2
    ratio = 100 * loaded.per_second / alone
    times = sorted(reader.times)
    p95 = times[int(0.95 * (len(times) - 1))]
    report(
        "ingest_under_ui_load",
        {
            "new, per second, alone": alone,
            "new, per second, pages read": loaded.per_second,
            "%": ratio,
            "pages read": len(times),
            "page p50 ms": statistics.median(times),
            "page p95 ms": p95,
            "failures": reader.failures + loaded.errors,
        },
        {">= 80 %": ratio >= 80, "page p95 < 100 ms": p95 < 100, "no failures": reader.failures + loaded.errors == 0},
    )


if __name__ == "__main__":
    main()
