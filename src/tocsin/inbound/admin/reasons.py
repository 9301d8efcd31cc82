"""Why an integration or its draft is rejected, where several modules of the room say so."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

UNKNOWN_KIND = ReasonType("integration.unknown_kind", "This version of Tocsin does not know the kind {kind}.")
