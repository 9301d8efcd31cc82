"""Why a change of users, groups and absences is rejected, where several modules say so."""

from __future__ import annotations

from tocsin.core.reasons import Text

# Each completes a sentence that begins with the path of the value.
NO_SUCH_USER = Text('no user named "{name}".')
NO_SUCH_GROUP = Text('no group named "{name}".')
NO_SUCH_CONTACT_METHOD = Text('no contact method named "{label}".')
NOT_AN_EMAIL_ADDRESS = Text('"{address}" is not an email address.')

#: An absence that refers to a user or group.
ABSENCE_REFERENCE = Text("the absence of {username}")
