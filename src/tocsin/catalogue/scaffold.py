"""Scaffolds the folder of a new integration kind: a working template whose contents are to be replaced."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text, sentence

_INVALID_NAME = Text('"{name}" is no name for a kind: 3 to 40 of a-z, 0-9 and _, beginning with a letter.')

#: The folder that holds the catalogue's kinds.
KINDS: Final = Path(__file__).parent / "kinds"

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{1,38}[a-z0-9]")

_MANIFEST: Final = """\
# {title}: say here which version and which payload this was written for, and where they are documented.

title = "{title}"
category = "API" # API, Email, Heartbeat or Chat
description = "Alerts of {title} by its webhook."
label = "" # stands before an id in texts, such as Halo in "Halo 20817"
id_required = false # true: a message without an id and without a subject is Mapping Failed
id_name = "id" # what {title} calls its id
unreadable_status = 400 # 200 where a sender would switch itself off after an error
first_sample = "open"

[settings.priorities]
title = "Priorities"
kind = "map"
help = "What the severities of {title} mean. The usual words (critical, high, warning, P1 to P5) are known already."
choices = ["critical", "high", "medium", "low"]

[mapping]
source_name = {{ literal = "{title}" }}
source_id = {{ paths = ["alert^id"], only = "text" }}
source_status = {{ path = "alert^state", only = "text" }}
source_time = "alert^changed_at"
source_url = "alert^link"
severity = {{ path = "alert^severity", only = "text" }}
priority = {{ path = "alert^severity", only = "text", map = "priorities" }}
subject = "alert^title"
long_text = "alert^description"

[mapping.tags]
component_name = {{ path = "alert^host", only = "text" }}

[rules]
close = {{ field = "source_status", operator = "one of", value = ["resolved", "ok"] }}
open = {{ field = "source_status", operator = "one of", value = ["firing", "alarm"] }}
update = true
"""

_GUIDE: Final = """\
# Alerts from {title}

1. In {title}: **Settings → Notifications → Webhooks → Add** (name each screen and field as it is called there).
2. Payload URL:

   ```
   {{{{ url }}}}
   ```

3. Method **POST**, content type **application/json**. Leave everything else as it is.
4. Send a test from {title}. It opens an alert here; close it again.

What you get: one alert for each problem, known by {title}'s own id, closed when {title} says that it is over.
"""

_SAMPLES: Final = {
    "open.json": '{{"alert": {{"id": "A-1001", "state": "firing", "severity": "critical", "title": "web1 is down", '
    '"description": "No answer for 2 minutes.", "host": "web1", "changed_at": "2026-11-24T02:10:30Z", '
    '"link": "https://monitoring.example/alerts/A-1001"}}}}\n',
    "open.expected.toml": """\
title = "A problem begins"

[[expect]]
status = "Mapped Opened"
fields = {{ source_id = "A-1001", subject = "web1 is down", priority = "critical" }}
""",
    "again.json": '{{"alert": {{"id": "A-1001", "state": "firing", "severity": "critical", "title": "web1 is down", '
    '"changed_at": "2026-11-24T02:15:30Z"}}}}\n',
    "again.expected.toml": """\
title = "The same problem again"
before = ["open"]

[[expect]]
status = "Mapped Appended"
""",
    "resolved.json": '{{"alert": {{"id": "A-1001", "state": "resolved", "title": "web1 is up", '
    '"changed_at": "2026-11-24T02:41:00Z"}}}}\n',
    "resolved.expected.toml": """\
title = "The problem is over"
before = ["open"]

[[expect]]
status = "Mapped Closed"
""",
    "unreadable.txt": "This is not JSON.\n",
    "unreadable.expected.toml": """\
title = "A body that cannot be read"

[[expect]]
status = "Mapping Failed"
reason = "line 1"
""",
}


def create_kind(name: str, title: str, folder: Path = KINDS) -> list[Path]:
    """Writes the folder of a new kind and returns its files. Raises Rejected("invalid") or Rejected("name_taken")."""
    if not _NAME.fullmatch(name):
        raise Rejected("invalid", _INVALID_NAME(name=name))
    if not title.strip() or not title.isprintable() or len(title) > 60 or '"' in title or "\\" in title:
        raise Rejected(
            "invalid", sentence("A title is what people call the tool, in at most 60 characters without quotes.")
        )
    kind_folder = folder / name
    if kind_folder.exists():
        raise Rejected("name_taken", sentence("{folder} is there already.", folder=str(kind_folder)))
    texts = {"integration.toml": _MANIFEST, "guide.md": _GUIDE} | {f"samples/{n}": text for n, text in _SAMPLES.items()}
    created = []
    for file, text in texts.items():
        path = kind_folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(title=title), encoding="utf-8")
        created.append(path)
    return created
