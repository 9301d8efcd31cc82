"""Ingest side by side with Alertmanager: one new alert a POST, of the same size, at both in turns.

Alertmanager keeps alerts in memory only: a 2xx of it is lost by a kill. A 2xx of Tocsin means stored, decided and
committed with fsync. The ratio of the two rates says what that costs.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.harness import TOKEN, end, free_port, halo_script, report, tocsin, wrk

SIZE = 1_500
ROUNDS = 3

#: Groups each alert for itself, as Tocsin does, and notifies nobody.
CONFIGURATION = """
route: {receiver: nobody, group_by: ['...']}
receivers: [{name: nobody}]
"""


@contextmanager
def alertmanager() -> Iterator[str]:
    """Debian's Alertmanager on loopback, alone. Its address. Raises RuntimeError where it is not installed."""
    program = shutil.which("prometheus-alertmanager")
    if program is None:
        raise RuntimeError("Alertmanager is not here: apt-get install prometheus-alertmanager")
    url = f"http://127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "alertmanager.yml"
        file.write_text(CONFIGURATION)
        process = subprocess.Popen(
            [program, f"--config.file={file}", f"--storage.path={folder}/data", "--cluster.listen-address=",
             f"--web.listen-address={url.removeprefix('http://')}", "--log.level=warn"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            _wait_until_ready(url)
            yield url
        finally:
            end(process)


def _wait_until_ready(url: str) -> None:
    for _ in range(100):
        try:
            if httpx.get(f"{url}/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"Alertmanager at {url} is not ready after 10 seconds")


def alert_script(*, size: int) -> str:
    """A wrk script that posts one new alert of about `size` bytes in each request."""
    alert = {
        "labels": {"alertname": "HostDown", "instance": "@ID@", "severity": "critical", "client": "Acme Corp"},
        "annotations": {"summary": "Zürich: VPN down for 40 users", "description": "x"},
        "generatorURL": "http://prometheus.example/graph?g0.expr=up",
    }
    missing = size - len(json.dumps([alert], ensure_ascii=False).encode())
    alert["annotations"]["description"] += "x" * max(0, missing)  # type: ignore[index]
    template = json.dumps([alert], ensure_ascii=False).replace("@ID@", "web%d")
    return f"""
counter = {time.time_ns() // 1_000_000_000 % 1000} * 1000000
local template = [==[{template}]==]
function request()
  counter = counter + 1
  return wrk.format("POST", nil, {{["Content-Type"] = "application/json"}}, string.format(template, counter))
end
"""


def main() -> None:
    """ROUNDS rounds, each Alertmanager first and then Tocsin, with 64 connections. Reports medians."""
    theirs, ours = [], []
    with alertmanager() as url, tocsin() as served:
        wrk(f"{served.url}/in/{TOKEN}", halo_script(size=SIZE), seconds=2)
        for _ in range(ROUNDS):
            theirs.append(wrk(f"{url}/api/v2/alerts", alert_script(size=SIZE)))
            ours.append(wrk(f"{served.url}/in/{TOKEN}", halo_script(size=SIZE)))
            time.sleep(1.1)  # the identities of a script follow the second in which it was made
    ratio = statistics.median(our.per_second / their.per_second for our, their in zip(ours, theirs, strict=True))
    our_p99, their_p99 = (statistics.median(rate.p99_ms for rate in rates) for rates in (ours, theirs))
    errors = sum(rate.errors for rate in (*ours, *theirs))
    report(
        "compare",
        {
            "Alertmanager, per second": [round(rate.per_second) for rate in theirs],
            "Tocsin, per second": [round(rate.per_second) for rate in ours],
            "ratio": f"{ratio:.2f}",
            "Alertmanager, p99 ms": their_p99,
            "Tocsin, p99 ms": our_p99,
            "errors": errors,
        },
        {
            ">= 0.60 of Alertmanager's rate": ratio >= 0.6,
            "p99 not above Alertmanager's": our_p99 <= their_p99,
            "no errors": errors == 0,
        },
    )


if __name__ == "__main__":
    main()
