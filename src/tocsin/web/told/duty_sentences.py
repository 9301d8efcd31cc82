"""What people are mailed about their duty: shifts handed on, swaps, reminders, the weekly mail. Pure data."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

SENTENCES = (
    # Shifts that change hands.
    _("{name} is on call in {name_b}, {day} to {day_b} ({zone})"),
    _("{name} is on call in {name_b} from {day} to {day_b} ({zone})"),
    _("{name} is on call in {name_b} from {day} to {day_b} ({zone}), instead of {name_c}"),
    _("{name} is {role} of {name_b} from {day} to {day_b} ({zone})"),
    _("{name} is {role} of {name_b} from {day} to {day_b} ({zone}), instead of {name_c}"),
    _("{name} is no longer on call in {name_b}, {day} to {day_b} ({zone})"),
    _("{name} was to be on call in {name_b} from {day} to {day_b} ({zone}), and is not any more. {said}"),
    _("The schedule holds again"),
    _("{name} has it again"),
    _("{name} arranged it"),
    _("It is your shift, or was"),
    _("It was your shift, or is again"),
    # Out of office.
    _("{name} covers for {name_b}, {day} to {day_b} ({zone})"),
    _("{name} covers for {name_b} from {day} to {day_b} ({zone}), in every group"),
    _("{name} covers for {name_b} from {day} to {day_b} ({zone}), in every other group"),
    _("{name} covers for {name_b} from {day} to {day_b} ({zone}), in {name_c}"),
    _("{name} no longer covers for {name_b}, {day} to {day_b} ({zone})"),
    _("{name} was to cover for {name_b} from {day} to {day_b} ({zone}), and is not any more"),
    _("You cover for somebody, or were to"),
    # Swaps.
    _("{name} asks you to take a shift of {name_b}"),
    _("{name} asks {name_b} to take {name_c} from {day} to {day_b} ({zone})"),
    _("In return: from {day} to {day_b} ({zone})"),
    _("{name} asked you"),
    _("{name} cannot take it. The shift stays yours"),
    _("{name} took the question back. Nothing to do"),
    _("Swap of {name} accepted"),
    _("Swap of {name} declined"),
    _("Swap of {name} withdrawn"),
    _("It is about a swap of yours"),
    # Reminders.
    _("On call now: {role} of {name}"),
    _("You are {role} of {name} from {day} until {day_b} ({zone}): {said}"),
    _("You are {role} of {name} from {day} ({zone}): {said}"),
    _("override {name}"),
    _("an override"),
    # The weekly mail.
    _("On call in {name}: 1 thing to look at"),
    _("On call in {name}: {number} things to look at"),
    _("What is wrong with who is on call in {name} in the next {number} days:"),
    _("and {number} more"),
    _("The group: {address}"),
    _("You are a manager of {name}"),
    _("{name} has no manager"),
    # A calendar elsewhere that names people whom nobody here is.
    _("Nobody here is called {name}: those turns are nobody's"),
    # The auditor's mails.
    _("Tocsin: over: {said}"),
    _("It began {ago}"),
    _("What to do: {said}"),
    _("It is over; it lasted {span_in}. It was: {said}"),
)
