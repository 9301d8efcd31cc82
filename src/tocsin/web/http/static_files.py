"""Serves static files with WhiteNoise below the URLs of `web.http.assets`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import MissingFileError

from tocsin.web.http.assets import COMPRESSED, PREFIX, static_url


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
