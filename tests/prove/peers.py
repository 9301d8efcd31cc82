"""What another program keeps after the same kill: `python -m tests.prove.peers --kills 20`.

Debian's Alertmanager gets distinct alerts at the same rate, and notifies a webhook. Each alert is sent until it is
answered, once; Prometheus would repeat it as long as the alert lasts.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from tests.doubles.http import Request, Response, http_double
from tests.prove.bench import free_port, short_folder
from tests.support.installation import until

PROGRAM = "prometheus-alertmanager"
_RATE = 10.0
#: How long notifications may take after the last kill.
_SETTLE = 30.0

#: Each alert is a group of its own and notified after a second, for the shortest time in memory that is usual.
_SETTINGS = """
route: {{receiver: webhook, group_by: ['...'], group_wait: 1s, group_interval: 5m, repeat_interval: 4h}}
receivers: [{{name: webhook, webhook_configs: [{{url: "{url}", send_resolved: false}}]}}]
"""


class Alertmanager:
    """One Alertmanager that is killed and started again on the same storage."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._file = folder / "alertmanager.yml"
        self._file.write_text(_SETTINGS.format(url=url))
        self._address = f"127.0.0.1:{free_port()}"

    def start(self) -> None:
        with (self._folder / "alertmanager.log").open("ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, f"--config.file={self._file}", f"--storage.path={self._folder / 'data'}",
                 "--cluster.listen-address=", f"--web.listen-address={self._address}"],
                stdout=log, stderr=log,
            )  # fmt: skip
        until("Alertmanager is ready", self._is_ready, 30)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def send(self, number: int) -> bool:
        """Sends an alert; whether it was answered with 200."""
        alert = {"labels": {"alertname": f"Down{number}"}, "startsAt": datetime.now(UTC).isoformat()}
        request = urllib.request.Request(
            f"http://{self._address}/api/v2/alerts", json.dumps([alert]).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def measure_alertmanager(kills: int, seed: int) -> str:
    """Kills it so often under load, and says what became of the answered alerts."""
    notified: Counter[int] = Counter()
    answered: set[int] = set()
    stopped = threading.Event()

    def record(request: Request) -> Response:
        notified.update(int(alert["labels"]["alertname"][4:]) for alert in request.json()["alerts"])
        return Response()

    def send_all(server: Alertmanager) -> None:
        number = 0
        while not stopped.wait(1 / _RATE):
            number += 1
            while not server.send(number) and not stopped.wait(0.1):
                pass
            answered.add(number)

    with short_folder() as folder, http_double(record) as webhook:
        server = Alertmanager(folder, webhook.url)
        server.start()
        sender = threading.Thread(target=send_all, args=(server,))
        sender.start()
        rng = random.Random(seed)
        for _ in range(kills):
            time.sleep(rng.uniform(1.5, 4.0))
            server.kill()
            server.start()
        stopped.set()
        sender.join()
        time.sleep(_SETTLE)
        server.kill()
    never = answered - notified.keys()
    twice = sum(count > 1 for count in notified.values())
    version = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    return (
        f"Alertmanager {version}: {kills} kills, {len(answered)} answered, {len(never)} never notified, "
        f"{twice} notified twice"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.prove.peers", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if shutil.which(PROGRAM) is None:
        sys.stdout.write(f"{PROGRAM} is not installed\n")
        return 1
    sys.stdout.write(f"{measure_alertmanager(options.kills, options.seed)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
