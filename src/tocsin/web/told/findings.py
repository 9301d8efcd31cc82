"""What Home, System and `tocsin doctor` find, and how it is mended. Pure data."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

FINDINGS = (
    # Integrations and outbound integrations.
    _("In the last 7 days 1 new ticket came first with {said}, and opened nothing"),
    _("In the last 7 days {number} new tickets came first with {said}, and opened nothing"),
    _("Let it open if somebody should be paged"),
    _("No status of the last 7 days opens: choose the one that should page somebody"),
    _("{name} could not do 1 thing: look, and send again. Last: {said}"),
    _("{name} could not do {number} things: look, and send again. Last: {said}"),
    _("The workflow {name} does nothing: {said}"),
    _(
        "The workflow {name} has reached its limit, and 1 thing was not done. It may go in circles through "
        "another system: look at its log"
    ),
    _(
        "The workflow {name} has reached its limit, and {number} things were not done. It may go in circles "
        "through another system: look at its log"
    ),
    _("The workflow {name}: 1 run of it is stuck"),
    _("The workflow {name}: {number} runs of it are stuck"),
    _("{number} wait"),
    _("Open it under Outbound integrations, do what the sentence says, and press Test"),
    _("It is tried again by itself; look whether the other side is up, and reachable from here"),
    _("Open its log under Outbound integrations: send them again, or decide that they are not sent"),
    _("Press “Set up the webhook for me”, or look at the webhook in Halo"),
    _("Press Test on its page: it says which right is missing"),
    _("Open it under Workflows and save it again, or delete it"),
    _("Open its log under Workflows: mend what the sentence says, then try again, or end it"),
    _("Correct it under Inbound integrations and save it, then replay those messages from the Inbound Log"),
    _("{name} decides nothing: {said} What it gets is kept as Mapping Failed"),
    _("{name} would page nobody. {said}"),
    _("Give it a policy or recipients that can be reached, or set it to watch"),
    # Who is on call.
    _("{said}: from {day} ({name}) for {span}"),
    _("{said}: from {day} ({name}) for {span} ({number} times in all)"),
    _("{said}: from {day} ({name}) on"),
    _("Shift {name} of {name_b} names {name_c}, who is switched off: nobody calls them"),
    _("Override {name} of {name_b} has {name_c} stand in, who is switched off: it does not count"),
    _("An override of {name} has {name_b} stand in, who is switched off: it does not count"),
    _("Shift {name} of {name_b} never counts: {name_c} goes before it"),
    _("{name} is {role} and {role_b} of {name_b} at once"),
    _("No shift is on for {role} of {name}; in the group's own order it is {name_b}"),
    _("Add a shift for that time. Until then a step that asks for this role calls nobody, and the next comes"),
    _("Name who covers under their out of office, or override the shift. Until then they are still paged"),
    _("Take them out of the shift or override, or put somebody in their place"),
    _("Give it a higher layer, or delete it"),
    _("Override one of the two roles, or change the order of the users"),
    _("Add a shift for that time, unless it is meant so"),
    _("There is no administrator: nobody is told of problems, or can mend them in the browser"),
    _("{name} wrote STOP: {name_b} gets no text messages"),
    _("Have them send START to Tocsin's number, or give them another way"),
    # Calendars elsewhere.
    _(
        "Look at the address in the shift, and whether this machine may connect to it. What was read last stays in "
        "force"
    ),
    _("The calendar of shift {name} of {name_b}: {said}"),
    _("It is not a calendar: it is empty"),
    _("It is not a calendar: it begins with {quoted}"),
    _("It is not a calendar to its end: its server was too slow, or sent only a part"),
    _("It is not a calendar that can be read: {said}"),
    _("It has {number} events in the time looked at; {number_b} are taken at most"),
    _("It takes too long, or too much memory, to be read: it is very big, or an event in it repeats every few seconds"),
    _("Something in it could not be understood; the log says what"),
    _("Left out, or not taken as meant: {said}"),
    # Providers.
    _("Open it under Providers, correct it, and save"),
    _("A secret of the {name} cannot be decrypted with the known secret keys"),
    _("Add the key it was saved under to TOCSIN_SECRET_KEY, or enter the secret again"),
    _("The provider {name} cannot be used: {said}"),
    _("No provider carries {said} to the address of {people}: their pages by it fail"),
    _("Look at the channel's providers, also at their countries, or give them another way"),
    _("No provider carries {said} to this address"),
    _("No provider carries {said} to this address: {name} cannot be used"),
    _("The provider {name} failed on end, and others take its turn"),
    _("Its page under Providers says why. It is asked again by itself"),
    # The address.
    _("Look at DNS, the firewall and the proxy; then try the address from a phone on mobile data"),
    _("The certificate of {name} ends in {number} days"),
    _("Look why the proxy does not renew it"),
    _("{name} leads on to {name_b}: senders do not follow"),
    _("Set TOCSIN_BASE_URL to the address that answers itself"),
    _("The certificate of {name} is not trusted: {said}"),
    _("Have the proxy get one that is publicly trusted; HaloITSM and phones refuse any other"),
    _("{name} answers {number}, not 200 with “ok”: the address leads somewhere else, or Tocsin does not run"),
    _("Look at the proxy's configuration, and whether `tocsin serve` runs"),
    # The database.
    _("LISTEN does not work: changes reach other processes a second late, and locks of a session may be lost"),
    _("Point TOCSIN_DATABASE_URL at PostgreSQL itself, not at a pooler in transaction mode"),
    _("{number} migrations are missing, such as {name}"),
    _("Start `tocsin serve`, which brings the tables up to date"),
    _("The database's tables are a newer Tocsin's, which has made {name}"),
    _("Upgrade this one too. To go back to it for good, restore the backup from before the upgrade"),
    _("{name} can need {number} connections, and PostgreSQL allows {number_b}"),
    _("Set max_connections to {number} or more, or run fewer nodes"),
    _("PostgreSQL {number} is too old: Tocsin needs {number_b} or later"),
    _("Upgrade it, or `tocsin backup`, and restore into a newer one"),
    _("The database's encoding is {name}: some texts cannot be stored"),
    _("Make one with ENCODING 'UTF8' TEMPLATE template0, and move there by `tocsin backup` and `restore`"),
    _("Tocsin's role may not make tables, so it cannot be upgraded"),
    _("ALTER DATABASE … OWNER TO Tocsin's role"),
    _("This machine's clock and the database's are {name} seconds apart"),
    _("Run NTP on both (`timedatectl set-ntp true`)"),
    _("{name} asynchronously: after a failover to one, the last messages that were answered can be missing"),
    _("Name one in synchronous_standby_names. Without that, never fail over to one"),
    _("The database is a standby: it takes no writes"),
    _("Point TOCSIN_DATABASE_URL at the primary; `target_session_attrs=read-write` finds it among several"),
    _("fsync is off: a power cut loses messages that were answered"),
    _("full_page_writes is off: a power cut can destroy the database"),
    _("synchronous_commit is off: a crash loses the last messages that were answered"),
    _(
        "synchronous_commit is local: commits do not wait for the standby, which lacks the last messages that "
        "were answered"
    ),
    _("Set {name} to on"),
    _("Set {name} to off"),
    _("Set synchronous_commit to on, for Tocsin's role and database too"),
    _("Commits wait for a synchronous standby, and none follows: nothing can be stored"),
    _("Start the standby, or take it out of synchronous_standby_names"),
    _("The database takes no writes"),
    _("The database cannot be used: {said}"),
    _("Look at TOCSIN_DATABASE_URL and at the server; for the built-in one, at the log in its folder"),
    # The machine, and what runs.
    _("TOCSIN_TEST_CLOCK is set: whoever can write to the database can move the time"),
    _("TOCSIN_DEBUG is set: error pages show settings and code to whoever meets one"),
    _("Take the variable away; it is for tests"),
    _("Take the variable away; it is for developers"),
    _("{name} of {name_b} are free on the disk of {name_c}"),
    _("{name} of {name_b} file entries are free on the disk of {name_c}"),
    _("Make room, or lower the settings `message_size_cap_mb` and `message_retention_days`"),
    _("Remove what has many small files there"),
    _("Others than its owner may read {name} (mode {name_b}), the key to all stored secrets"),
    _("chmod 600 {name}. If others may have read it, give every provider new secrets"),
    _("Start a node with the role worker or all. A node that just started needs half a minute"),
    _("No Tocsin runs on this database: nothing is taken, and nobody is paged"),
    _("Start `tocsin serve`; `tocsin service install` has it start with the machine"),
    _(
        "The node {name} ({name_b}) was last heard of {span_in} ago, and did not end in good order. Others have "
        "taken over its work"
    ),
    _("Look at that machine, and start it again. An hour after it was last heard of it is forgotten"),
    _("The outside heartbeat is not taken: {said}"),
    _("Look at TOCSIN_HEARTBEAT_URL, and whether this machine may connect to it"),
    _("Look at the log; if nothing there explains it, report it"),
    # Why a message waits, and what became of a page.
    _("The alert is on hold; this waits for the end of that"),
    _("A message left for this address a moment ago; this leaves bundled, within 10 seconds"),
    _("So many messages an hour as the person wants have left for this address; this leaves with the others later"),
    _("The page is still on its way; this follows it"),
    _("Its provider takes no more messages at this moment; this waits for its turn"),
    _("STOP was sent from this number, so it gets no text messages until START is sent from it"),
    _("The call ended before anybody was told anything"),
    _("{name} uses {name_b} no more"),
    _("{name} is a contact of its group no more"),
    _("Slack knows no such member or room, or the app may not see it"),
    _("The app takes no direct messages: switch on its Messages Tab"),
    _("The workspace does not let the app write there"),
    _("Its browser takes pushes no more: it was uninstalled, or permission was taken away"),
    _("{name} opened it by hand: {name_b}"),
    _("{name} could not be sent to {name_b} by {name_c}: {said}"),
    _("{said} joined: {said_b}"),
    _("{said} is over: {said_b}; the alert goes on for {number} others"),
    _("{said} is over: {said_b}; the alert goes on for {number} other"),
    _("{said} is over: {said_b}; the alert is not closed by its children"),
    _(
        "A chat address is slack:U012AB3CD, telegram:123456789, or the address that a chat service gives for its "
        "messages"
    ),
    _("{day} to {day_b} ({name})"),
    # Where other products make their keys.
    _("Settings → API key management, with Read and Configuration access"),
    _("Integrations → API Access Keys, read-only"),
    _("Administration → Subscription Settings, or your profile"),
)
