"""The reasons of refused requests, of webhooks and of the compatible endpoints."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

NOT_STORED = ReasonType("request.not_stored", "It is not stored. Send it again.")
MAYBE_NOT_STORED = ReasonType(
    "request.maybe_not_stored",
    "It is not known to be stored. Send it again. With the same delivery id, that does no harm.",
)
BEING_CHANGED = ReasonType("request.alert_being_changed", "Another user is changing this alert. Send it again.")
OVER_CAPACITY = ReasonType("request.over_capacity", "Too much is being received. Send it again.")
TOO_LARGE = ReasonType("request.too_large", "A body has at most {limit} MiB.")
TOO_SLOW = ReasonType("request.too_slow", "The body was not complete in time. Send it again.")
POST_NEEDED = ReasonType("request.post_needed", "Send a POST.")

UNKNOWN_TOKEN = ReasonType("request.unknown_token", "No integration has this address. It may have been rotated.")
INTEGRATION_DELETED = ReasonType("request.integration_deleted", "The integration was deleted.")
CREDENTIAL = ReasonType("request.credential", "{name}: {status}")
ADDRESS_ALLOWED = ReasonType("request.address_allowed", "{address} may send here")
ADDRESS_NOT_ALLOWED = ReasonType("request.address_not_allowed", "{address} may not send here")
UNKNOWN_ADDRESS = ReasonType("request.unknown_address", "an unknown address")

SENDER_NOT_CHECKED = ReasonType("sender.not_checked", "The sender cannot be checked now.")
UNREADABLE = ReasonType("sender.unreadable", "It cannot be checked: {error}.")
OTHER_SENDER = ReasonType(
    "sender.other",
    "This integration accepts messages of {expected} only, not of {sender}. To change that, {remedy}",
)

UNKNOWN_PING = ReasonType(
    "heartbeat.unknown_ping", "A heartbeat has the address of its integration, or {paths} after it."
)
