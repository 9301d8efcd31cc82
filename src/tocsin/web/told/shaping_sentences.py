"""What is said of alerts that wait, join others or are held back. Pure data."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

SENTENCES = (
    # The parts of the gate.
    _("maintenance"),
    _("flapping"),
    _("delay"),
    _("parent"),
    _("flood"),
    _("gate"),
    _("no maintenance, parent, group, delay or limit holds it back"),
    _("maintenance: {name}, until {name_b}"),
    _("{name}, until {moment}"),
    _("it waited for {span}, and opens {said}"),
    _("its alert opens {said}"),
    _("it joins alert {number}: {said}"),
    _("counted on alert {number}, which it joined"),
    _("its part is over, alert {number} goes on for {number_b} other"),
    _("its part is over, alert {number} goes on for {number_b} others"),
    _("its part is over, alert {number} is not closed by its children"),
    _("it was over before its alert opened"),
    # When it opens.
    _("after {span}, unless it closes before"),
    _("when {number} alerts came within {span}"),
    _("when {number} alerts of the integration came within {span}"),
    _("with every {number} alerts"),
    _("with every {number} alerts of the integration"),
    _("at most once every {span}"),
    _("at most once every {span} for the whole integration"),
    _("when the support hours {name} begin"),
    _("It opens when others come: how many wait already is on the Overview"),
    _("It waits for {span}. What follows is as of then, if it does not close before"),
    _("If nothing else comes for {span}: {name}, {said}"),
    _("when the maintenance {name} ends"),
    _("when it was open for {span}, because it flaps"),
    # Why it joins.
    _("the same group"),
    _("they waited together"),
    _("it waited, and counts on alert {number}"),
    _("alert {number} is of its parent"),
    _("more than {number} alerts at once"),
    _("more than {number} alerts at once: this alert stands for all of them"),
    _("it flaps: it opened {number} times within {span}, and from now on it opens only when it was there for {span_b}"),
    _("over after {span_in}, before its alert opened ({said}); nobody was paged"),
)
