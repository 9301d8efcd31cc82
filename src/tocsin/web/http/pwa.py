"""What an installed Tocsin needs: the service worker at the root of the site, and the page without a connection.

Neither says anything about a person or an alert: both are kept on the device.
"""

from __future__ import annotations

import json

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.templatetags.static import static
from django.urls import reverse
from django.views.decorators.http import require_safe

from tocsin.web.http import assets

#: What every page loads, so that the first page after an installation needs only its own HTML.
KEPT = (
    "vendor/inter/inter.css",
    "vendor/inter/files/inter-latin-wght-normal.woff2",
    "vendor/tabler/tabler.min.css",
    "vendor/htmx/htmx.min.js",
    "vendor/icons.svg",
    "tocsin/tokens.css",
    "tocsin/tocsin.css",
    "tocsin/page.js",
    "tocsin/keyboard.js",
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
    """The worker, from the root so that it may answer for every page; a browser asks for it anew each day."""
    version = assets.static_url().strip("/").rpartition("/")[2]
    names = {
        "version": version,
        "static": assets.static_url(),
        "files": [static(name) for name in KEPT],
        "icon": static("tocsin/icons/app-192.png"),
        "badge": static("tocsin/icons/badge-96.png"),
        "push": static("tocsin/push-worker.js"),
        "offline": reverse("offline"),
    }
    text = f"const tocsin = {json.dumps(names)};\n{_SCRIPT.read_text()}"
    return HttpResponse(text, content_type="text/javascript; charset=utf-8", headers={"Cache-Control": "no-cache"})


@login_not_required
@require_safe
def offline(request: HttpRequest) -> HttpResponse:
    """The page that the worker shows when the server cannot be reached."""
    response = render(request, "offline.html")
    response["Cache-Control"] = "no-cache"
    return response
