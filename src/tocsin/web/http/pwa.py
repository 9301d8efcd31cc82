"""Progressive web app: the service worker at the site root and the offline view.

Both are stored on the device, so neither contains data about a user or an alert.
"""

from __future__ import annotations

import json

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.templatetags.static import static
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from tocsin.web.http import assets

#: Files that every view loads. The service worker precaches them, so the first view after installation needs only HTML.
PRECACHED_FILES = (
    "vendor/inter/inter.css",
    "vendor/inter/files/inter-latin-wght-normal.woff2",
    "vendor/tabler/tabler.min.css",
    "vendor/htmx/htmx.min.js",
    "vendor/icons.svg",
    "tocsin/tokens.css",
    "tocsin/tocsin.css",
    "tocsin/app.js",
    "tocsin/keyboard.js",
    "tocsin/palette.js",
    "tocsin/live.js",
    "tocsin/offline.js",
    "tocsin/bell.svg",
    "tocsin/icons/app-192.png",
    "tocsin/icons/badge-96.png",
)

_SCRIPT = assets.STATIC / "tocsin" / "service-worker.js"


@login_not_required
@require_safe
def service_worker(request: HttpRequest) -> HttpResponse:
    """Serve the service worker from the root, so that its scope covers every view. Browsers check it for
    updates daily."""
    version = assets.static_url().strip("/").rpartition("/")[2]
    config = {
        "version": version,
        "static": assets.static_url(),
        "files": [static(name) for name in PRECACHED_FILES],
        "icon": static("tocsin/icons/app-192.png"),
        "badge": static("tocsin/icons/badge-96.png"),
        "push": static("tocsin/push-worker.js"),
        "offline": reverse("offline"),
        "texts": {
            "details": _("Open Tocsin for details."),
            "unreachable": _("Tocsin can't be reached. Nothing was changed."),
            "tap": _("Tap to open the alert and respond there."),
        },
    }
    text = f"const tocsin = {json.dumps(config)};\n{_SCRIPT.read_text()}"
    return HttpResponse(text, content_type="text/javascript; charset=utf-8", headers={"Cache-Control": "no-cache"})


@login_not_required
@require_safe
def offline(request: HttpRequest) -> HttpResponse:
    """Render the view that the service worker shows while the server is unreachable."""
    response = render(request, "offline.html")
    response["Cache-Control"] = "no-cache"
    return response
