"""After the preload, every message is rendered without opening a file."""

from __future__ import annotations

import subprocess
import sys

#: In a process of its own: in this one, other tests may have loaded everything.
_PROGRAM = """
import os, resource
os.environ["DJANGO_SETTINGS_MODULE"] = "tocsin.settings"
from datetime import UTC, datetime
import django
django.setup()
from dataclasses import replace
from tests.support.notification_messages import every_purpose
from tocsin.core.net import egress
from tocsin.notify.providers.pool import CHANNELS
from tocsin.notify.dispatch.send import preload
from tocsin.notify.rules import page_planner
from tocsin.notify.text.formatting import localize
if {is_preloaded}:
    preload(datetime.now(UTC))
resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
try:
    open("/dev/null")
except OSError:
    pass
else:
    raise AssertionError("a file can be opened")
egress.tls_context()
for message in every_purpose("VPN down"):
    for language in ("en", "de"):
        localize(page_planner.PAGE(), language)
        for channel in CHANNELS.values():
            channel.render(replace(message, language=language))
"""


def run(*, is_preloaded: bool) -> subprocess.CompletedProcess[str]:
    program = _PROGRAM.replace("{is_preloaded}", str(is_preloaded))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)


def test_messages_are_rendered_without_a_free_descriptor() -> None:
    done = run(is_preloaded=True)
    assert done.returncode == 0, done.stderr


def test_without_the_preload_a_template_cannot_be_read() -> None:
    assert "Too many open files" in run(is_preloaded=False).stderr
