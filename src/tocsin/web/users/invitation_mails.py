"""Mails invitations, and says what became of it."""

from __future__ import annotations

import logging

from django.contrib import messages
from django.utils.translation import gettext as _

from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.people.changes import invitations
from tocsin.people.models import User
from tocsin.web import account_mail
from tocsin.web.http.request import SignedInRequest

log = logging.getLogger(__name__)


def send(request: SignedInRequest, user: User, *, quietly: bool = False) -> None:
    """E-mail the invitation. `quietly` shows a message only if it fails."""
    try:
        invitations.send(user, request.user)
    except (Temporary, Permanent, OutcomeUnknown) as error:
        log.warning("The invitation of %s could not be mailed: %s", user.username, error)
        messages.warning(
            request,
            _("Could not send the email to %(email)s (%(error)s). Share the link yourself.")
            % {"email": user.email, "error": error},
        )
        return
    if quietly:
        return
    if account_mail.is_sent_outside():
        messages.success(request, _("Invitation sent to %(email)s.") % {"email": user.email})
    else:
        messages.warning(
            request, _("No email provider is set up: the invitation is in the sandbox. Share the link below.")
        )
