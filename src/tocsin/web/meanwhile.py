"""Two who have the form of one object open: whoever saves second is told so once, before it undoes what the first did.

A form carries a stamp of its object as it was shown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from django.forms import BaseForm
from django.utils.translation import gettext as _

from tocsin.web.request import Request

#: The hidden field, which `seen.html` writes.
FIELD = "seen"


def stamp(spec: Mapping[str, Any] | None) -> str:
    """What tells one state of an object from another; empty for one that is being made."""
    if spec is None:
        return ""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, default=str).encode()).hexdigest()[:32]


def seen(request: Request, now: str, *, is_only_shown: bool = False) -> str:
    """The stamp for the form that is shown next: as the object is now, but where its buttons only moved its rows."""
    return request.POST.get(FIELD, now) if is_only_shown else now


def refuses(request: Request, now: str, form: BaseForm) -> bool:
    """Whether the object is not as the form had it, which the form then says; saved once more, it takes its place."""
    if request.POST.get(FIELD, now) == now:
        return False
    said = _("This was changed since you opened it. Look at it in another tab: if you save again, yours replaces it.")
    form.add_error(None, said)
    return True
