"""Serves the static files of `web.http.assets`, the service worker and the offline view."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.templatetags.static import static
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import MissingFileError

from tocsin.web.http.assets import COMPRESSED, PREFIX, STATIC, static_url


class StaticFilesMiddleware(WhiteNoiseMiddleware):
    """WhiteNoise that also serves URLs with another version's digest, so views rendered before an upgrade keep
    working."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:  # type: ignore[override] # Django's middleware signature
        path = request.path_info
        if path.startswith(PREFIX) and not path.startswith(static_url()):
            return self._serve_other_version(request)
        response: HttpResponseBase = super().__call__(request)  # type: ignore[no-untyped-call]
        return response

    def get_static_file(self, path: str, url: str, stat_cache: Mapping[str, os.stat_result] | None = None) -> Any:
        """Look up a file as WhiteNoise does, but ignore a compressed variant older than its file (left over from an
        edit)."""
        variants = [path, *(path + ending for ending in COMPRESSED)]
        stats = (
            {variant: os.stat(variant) for variant in variants if os.path.isfile(variant)}  # noqa: PTH116, PTH113
            if stat_cache is None
            else stat_cache
        )
        if path not in stats:
            raise MissingFileError(path)
        modified_at = stats[path].st_mtime
        fresh = {
            variant: stats[variant]
            for variant in variants
            if variant in stats and stats[variant].st_mtime >= modified_at
        }
        return super().get_static_file(path, url, stat_cache=fresh)  # type: ignore[no-untyped-call]

    def _serve_other_version(self, request: HttpRequest) -> HttpResponseBase:
        _, _, name = request.path_info[len(PREFIX) :].partition("/")
        request.path_info = static_url() + name
        response: HttpResponseBase = super().__call__(request)  # type: ignore[no-untyped-call]
        response["Cache-Control"] = "no-cache"
        return response


# ---------- pwa
# Progressive web app: the service worker at the site root and the offline view.
#
# Both are stored on the device, so neither contains data about a user or an alert.

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

_SCRIPT = STATIC / "tocsin" / "service-worker.js"


@login_not_required
@require_safe
def service_worker(request: HttpRequest) -> HttpResponse:
    """Serve the service worker from the root, so that its scope covers every view. Browsers check it for
    updates daily."""
    version = static_url().strip("/").rpartition("/")[2]
    config = {
        "version": version,
        "static": static_url(),
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
