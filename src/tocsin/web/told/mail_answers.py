"""What became of an answer by mail, text message or chat, and what its writer is told. Pure data."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

SENTENCES = (
    # Why it is no person's.
    _("It was sent automatically ({name})"),
    _("It was sent automatically (by its subject)"),
    _("It was sent automatically: nobody reads at its sender's"),
    _("It came from a mailing list"),
    _("It is a report on another mail's delivery"),
    # Why nothing was done.
    _("It has no single sender"),
    _("It answers no mail of Tocsin's to a person: it carries no signed reference"),
    _("The person whom the mail was for is switched off, or gone"),
    _("{name} is not one of {name_b}'s own addresses"),
    _("It has no text of its own"),
    _("Your mail has no text of its own above what it answers, so nothing was done"),
    _("You were not paged about alert {number}. Open it in Tocsin to act on it"),
    _("No alert is open for you"),
    _("{number} alerts are open for you: {name}. Send {name_b}"),
    _("{number} alerts are open for you: {name}. Send {name_b}, or {name_c}"),
    _("{number} alerts are open for you: {name} and {number_b} more. Send {name_b}"),
    _("{number} alerts are open for you: {name} and {number_b} more. Send {name_b}, or {name_c}"),
    _("Nothing was done: an answer ends with the code of its alert. Send {name}"),
    _("Too many wrong codes within an hour. Open the alert in Tocsin"),
    _("Your role may look at alerts, and not act on them. Ask an administrator"),
    _("That cannot be asked for here. Open the alert"),
    # What was done.
    _("The mail came back: {said}"),
    _("It asked for help"),
    _(
        "ACK: I have seen it. TAKE: it is mine. CLOSE: it is over. ESCALATE: wake the next. REPLY text. With several "
        "alerts add the number (ACK 42), or ACK ALL."
    ),
    _("Tocsin does not know this word"),
    _("This account is switched off"),
    _("You get text messages from Tocsin again"),
    _("You acknowledged {number} alert"),
    _("You acknowledged {number} alerts"),
    _("You took {number} alert"),
    _("You took {number} alerts"),
    _("You escalated {number} alert"),
    _("You escalated {number} alerts"),
    _("You closed {number} alert"),
    _("You closed {number} alerts"),
    _("You answered {number} alert"),
    _("You answered {number} alerts"),
    _("{number} could not be: open them to see why"),
)
