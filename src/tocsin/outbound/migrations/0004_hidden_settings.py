"""Addresses and headers of HTTP calls are encrypted beside the other secrets; what was kept of them is masked."""

import json
from urllib.parse import urlsplit

from django.db import migrations

from tocsin.core import crypto
from tocsin.core.errors import Permanent

MASK = "•••"
PLAIN = {"accept", "accept-language", "content-type", "user-agent"}

_EXCHANGES = """
UPDATE outbound_exchange e SET url = regexp_replace(e.url, '^([a-zA-Z]+://[^/?#]+)[/?#].+$', '\\1/…')
FROM outbound_outboundintegration i WHERE i.id = e.integration_id AND i.kind = 'http' AND e.url !~ '/…$'
"""


def shown_url(url):
    try:
        parts = urlsplit(url)
    except ValueError:
        return "/…"
    if not (parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc):
        return url
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"


def shown(settings):
    found = dict(settings)
    if isinstance(found.get("url"), str) and not found["url"].endswith("/…"):
        found["url"] = shown_url(found["url"])
    if isinstance(found.get("headers"), dict):
        found["headers"] = {
            name: text if name.lower() in PLAIN else MASK for name, text in found["headers"].items()
        }
    return found


def encrypt(apps, schema_editor):
    for row in apps.get_model("outbound", "OutboundIntegration").objects.filter(kind="http"):
        try:
            secrets = json.loads(crypto.decrypt(row.secrets)) if row.secrets else {}
        except Permanent:
            # It works only once it was entered again, which encrypts this too.
            continue
        hidden = {name: json.dumps(row.settings[name]) for name in ("url", "headers") if name in row.settings}
        row.secrets = crypto.encrypt(json.dumps({**secrets, **hidden}))
        row.settings = shown(row.settings)
        row.save(update_fields=["secrets", "settings"])
    entries = apps.get_model("access", "AuditEntry").objects.filter(object_type="outbound_integration")
    for entry in entries.iterator():
        before, after = (shown(state) if isinstance(state, dict) else state for state in (entry.before, entry.after))
        if (before, after) != (entry.before, entry.after):
            entry.before, entry.after = before, after
            entry.save(update_fields=["before", "after"])


class Migration(migrations.Migration):
    dependencies = [("outbound", "0003_tickets_not_made_yet"), ("access", "0001_initial")]

    operations = [
        migrations.RunPython(encrypt, migrations.RunPython.noop),
        migrations.RunSQL(_EXCHANGES, migrations.RunSQL.noop),
    ]
