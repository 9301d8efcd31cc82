"""Why a change of users, groups and absences is rejected, where several modules say so."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

# Each completes a sentence that begins with the path of the value.
NO_SUCH_USER = ReasonType("user.not_found", 'no user named "{name}".')
NO_SUCH_GROUP = ReasonType("group.not_found", 'no group named "{name}".')
NO_SUCH_CONTACT_METHOD = ReasonType("contact_method.not_found", 'no contact method named "{label}".')
NOT_AN_EMAIL_ADDRESS = ReasonType("contact_method.not_an_email_address", '"{address}" is not an email address.')

#: An absence that refers to a user or group.
ABSENCE_REFERENCE = ReasonType("absence.reference", "the absence of {username}")
