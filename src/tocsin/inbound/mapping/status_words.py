"""What a status means in the words that tools share: it opens, closes or updates. Pure.

A kind's rules come first; these words are for statuses that no rule knows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import Final

from tocsin.inbound.conditions import STATEMENT_ENDS


class StatusMeaning(StrEnum):
    OPEN = "open"
    CLOSE = "close"
    UPDATE = "update"


OPENING_WORDS: Final = frozenset({
    "active", "alarm", "alarming", "alert", "alerting", "anomaly", "bad", "breach", "breached", "breaching", "broken",
    "crash", "crashed", "create", "created", "creating", "crit", "critical", "danger", "dead", "degraded", "disaster",
    "disconnect", "disconnected", "down", "emergency", "err", "error", "errored", "escalated", "exception", "expired",
    "expires", "expiring", "expiry", "fail", "failed", "failing", "failure", "fatal", "fault", "fire", "fired",
    "firing", "hard_down", "identified", "inaccessible", "investigating", "late", "major", "minor", "missed", "missing",
    "nodata", "no_data", "new", "offline", "on", "ongoing", "open", "opened", "outage", "overdue", "panic",
    "partial_outage", "major_outage", "problem", "raise", "raised", "red", "regression", "reintroduced", "renotify",
    "reopen", "reopened", "set", "soft_down", "start", "started", "starting", "stale", "test", "testing", "timeout",
    "timed_out", "trigger", "triggered", "trouble", "unavailable", "unhealthy", "unknown", "unreachable", "unresolved",
    "unresponsive", "unstable", "violated", "violation", "warn", "warning", "yellow", "in_alarm", "unacknowledged",
    "abnormal", "abend", "abended", "absent", "breakdown", "compromised", "corrupt", "corrupted", "damaged", "exceeded",
    "exceeds", "failure_detected", "faulted", "faulty", "flatline", "high_alarm", "infected", "interrupted", "lost",
    "malfunction", "malicious", "mayday", "not_ok", "onbattery", "on_battery", "overheated", "overload", "overloaded",
    "severe", "tripped", "unsuccessful", "unsuccessfully", "detected", "suspicious", "urgent", "worsened", "outofsync",
    "out_of_sync", "ko", "nok", "onbatt", "lowbatt", "wet", "commbad", "nocomm", "replbatt", "banned", "ban", "blocked",
    "unprotected", "incomplete", "low_battery", "power_failure", "went_down", "exhausted", "past_due", "unpaid",
    "disconnection", "noncompliant", "not_compliant", "depleted", "evicted", "halted", "hung", "inoperable", "jammed",
    "out_of_service", "above_normal", "below_normal", "killed", "oomkilled", "rogue", "stalled", "stuck",
    # German, French, Spanish, Italian, Portuguese and Dutch
    "aktiv", "alarmiert", "ausfall", "ausgefallen", "ausgelöst", "defekt", "fehler", "fehlerhaft", "fehlgeschlagen",
    "gekommen", "gestört", "kommend", "kommt", "kritisch", "nicht_erreichbar", "offen", "störung", "stoerung",
    "überschritten", "unterbrochen", "unterschritten", "warnung", "alerte", "avertissement", "critique", "déclenché",
    "déclenchée", "défaut", "échec", "echec", "échoué", "échouée", "erreur", "hors_ligne", "hors_service",
    "indisponible", "ouvert", "ouverte", "panne", "abierta", "abierto", "advertencia", "alarma", "alerta", "caída",
    "caído", "caida", "caido", "crítica", "crítico", "critico", "critica", "fallido", "fallida", "fallo", "falla",
    "aberto", "aberta", "erro", "falha", "fora_do_ar", "verbroken", "onbereikbaar", "hors_tension", "injoignable",
    "abgelaufen", "awaria", "falhou", "allarme", "aperto", "errore", "fallito", "guasto", "indisponível", "parada",
    "parado", "fout", "kritiek", "mislukt", "storing", "waarschuwing", "abgebrochen", "interrotto",
    "interrotta", "interrompu", "irraggiungibile", "attivo",
    "attiva", "activo", "activa", "actif", "degradato",
})  # fmt: skip
#: Words in front of how bad it was.
_OVER_AGAIN: Final = frozenset({"cleared", "recovered", "resolved"})
#: The opposite of a status that opens.
NO_PROBLEM: Final = frozenset({"not_triggered", "not_firing", "not_alerting", "not_failing", "not_active"})
#: German, French, Spanish, Italian, Portuguese and Dutch
_FOREIGN_CLOSING: Final = frozenset({
    "abgeschlossen", "beendet", "behoben", "entwarnung", "erfolgreich", "erledigt", "erreichbar", "gegangen", "gehend",
    "geht", "gelöst", "in_betrieb", "in_ordnung", "en_service", "en_servicio", "dry", "trocken", "geschlossen",
    "verfügbar", "wiederhergestellt", "clos", "clôturé", "clôturée", "disponible", "en_ligne", "fermé", "fermée",
    "rétabli", "rétablie", "résolu", "résolue", "resolu", "réussi", "réussie", "succès", "succes", "terminé",
    "terminée", "cerrada", "cerrado", "completado", "éxito", "exitoso", "normalizado", "recuperada", "recuperado",
    "restablecido", "restaurado", "resuelta", "resuelto", "solucionado", "fechado", "resolvida", "resolvido", "sucesso",
    "chiuso", "risolto", "ripristinato", "riuscito", "successo", "gelukt", "geslaagd", "gesloten", "hersteld",
    "opgelost", "disponível", "goed", "bereikbaar", "beschikbaar", "operativo", "operativa", "operacional",
    "opérationnel", "rientrato", "rientro", "correcto", "normalisiert", "gültig", "zurückgesetzt", "działa", "no_ar",
    "en_línea", "joignable", "entstört", "entstörung", "wiederherstellung", "rétablissement", "retablissement",
    "retabli", "raggiungibile",
})  # fmt: skip
CLOSING_WORDS: Final = frozenset({
    "available", "cleared", "clear", "close", "closed", "closing", "complete", "completed", "connected", "done",
    "ended", "end", "finished", "fixed", "good", "green", "healed", "healthy", "inactive", "mitigated", "normal", "ok",
    "okay", "online", "operational", "pass", "passed", "passing", "reachable", "ready", "recover", "recovered",
    "recovery", "renewed", "reset", "resolve", "resolved", "resolving", "restored", "returned", "solved", "stopped",
    "succeed", "succeeded", "success", "successful", "uncritical", "undegraded", "up", "valid", "working", "all_clear",
    "back_to_normal", "auto_resolved", "autoresolved", "within_limits", "within_threshold", "in_range", "within_range",
    "closed_auto", "alive", "back_online", "answering", "cease", "ceased", "completes", "dismissed", "nominal",
    "optimal", "online_again", "reconnected", "rectified", "offbattery", "commok", "unban", "unbanned", "unblocked",
    "unfired", "remediated", "repaired", "responding", "resumed", "safe", "stable", "stabilized", "successfully",
    "synced", "in_sync", "online_utility", "onmains", "on_mains", "back_up", "no_problem", "clean", "uncompromised",
    "no_longer_active", "rearmed", "cleaned", "paid", "reconnection", "compliant", "live", "patched", "established",
    "in_service", "alarm_release", "alarm_released", "alarm_off", "gone", "mainsback", "mains_back", "received",
}) | _FOREIGN_CLOSING | NO_PROBLEM  # fmt: skip
UPDATING_WORDS: Final = frozenset({
    "ack", "acked", "acknowledge", "acknowledged", "acknowledgement", "annotate", "annotated", "assign", "assigned",
    "cancel", "canceled", "cancelled", "comment", "commented", "delegated", "deescalated", "downtime", "edited",
    "flapping", "in_progress", "maintenance", "merged", "monitoring", "muted", "note", "paused", "pending",
    "postmortem", "queued", "reassigned", "running", "scheduled", "silenced", "snoozed", "suppressed", "unassigned",
    "under_maintenance", "update", "updated", "verifying", "bestätigt", "quittiert", "acquitté", "reconocido",
    "flapping_start", "flapping_stop", "flapping_end", "flapping_disabled", "downtime_start", "downtime_end",
    "downtime_cancelled", "downtime_removed", "flappingstart", "flappingstop", "flappingend", "flappingdisabled",
    "downtimestart", "downtimeend", "downtimecancelled", "downtimeremoved", "scaled_up", "scaled_down", "scale_up",
    "scale_down", "in_bearbeitung", "en_cours", "in_corso", "en_curso", "in_behandeling",
})  # fmt: skip

#: Opening words that say of anything that it failed; others may say that somebody is active, or a page new.
FAILURES: Final = frozenset({
    "alarm", "alerting", "breached", "broken", "crashed", "crit", "critical", "dead", "down", "err", "error", "errored",
    "fail", "failed", "failing", "failure", "fatal", "firing", "timed_out", "timeout", "unhealthy", "unreachable",
    "faulted", "fehlgeschlagen", "fehler", "gestört", "ausgefallen", "ausfall", "échoué", "échec", "fallido", "caído",
    "offline", "outage", "lost", "unavailable", "indisponible", "indisponível", "mislukt", "fallito", "falhou",
    "unsuccessful", "abended", "degraded",
})  # fmt: skip
#: Closing words that may say of a failed run that it ended.
_COMPLETIONS: Final = frozenset({"complete", "completed", "done", "end", "ended", "finished", "received", "stopped"})
#: What goes on, whatever it is.
_CONTENTLESS: Final = frozenset({
    "update", "updated", "pending", "in_progress", "ongoing", "running", "queued", "monitoring", "scheduled",
})  # fmt: skip
#: Closing words that end a title, such as "Disk of db1 is OK"; a port that is "closed" may be the problem.
TITLE_ENDS: Final = _FOREIGN_CLOSING | frozenset({
    "cleared", "fixed", "healthy", "normal", "ok", "okay", "online", "operational", "passed", "reachable",
    "recovered", "resolved", "restored", "succeeded", "success", "successful", "up", "back_to_normal", "successfully",
    "ended", "nominal", "reconnected", "responding", "resumed", "alive", "solved", "connected", "stable", "optimal",
    "repaired", "remediated", "renewed",
})  # fmt: skip

#: "not ok", "No recovery": the words beside it mean the opposite, or nothing.
NEGATIONS: Final = frozenset({
    "not", "no", "non", "isn't", "never", "without", "than", "only", "nicht", "kein", "keine", "pas", "aucun", "niet",
    "geen",
})  # fmt: skip
_MAX_BARE_CHARS: Final = 30
BARE: Final = FAILURES | TITLE_ENDS | {"open", "opened", "closed", "triggered", "raised", "active", "inactive"}
#: Failures that may be named without one: "error rate".
NOUNS: Final = frozenset(
    {"alarm", "error", "err", "critical", "crit", "fatal", "timeout", "outage", "failure", "fehler"}
)
#: What an alert may be called, whatever its status.
_KINDS: Final = frozenset({"alert", "alarm", "problem", "incident", "exception", "error", "test", "outage"})
#: Words that say nothing beside another: "recovery detected".
WEAK: Final = frozenset({"detected", "new", "create", "created", "raised", "set", "start", "started", "test"})
#: How much it is, which a recovery does not say: "temperature too high" and "temperature normal".
DEGREES: Final = frozenset({
    "not", "too", "high", "low", "above", "below", "over", "under", "hoch", "nicht", "niedrig", "ordnung", "wieder",
    "zu", "full", "voll", "slow", "alta", "alto", "baja", "bajo", "bas", "basse", "haut", "haute", "trop",
})  # fmt: skip
#: A code of several words.
CODE: Final = re.compile(r"[^\W\d_]+([._][^\W\d_]+)+|[^\W\d_]*[a-z][A-Z][^\W\d_]*")
#: What is up as long as it runs; a run that is "stopped" is over, and one that is "running" is not.
SERVICES: Final = frozenset({
    "service", "servicename", "process", "processname", "container", "containername", "vm", "vmname", "daemon", "unit",
})  # fmt: skip
STATES_OF_SERVICES: Final = {
    "running": StatusMeaning.CLOSE,
    "stopped": StatusMeaning.OPEN,
    "exited": StatusMeaning.OPEN,
}
_EVENTS_OF_SERVICES: Final = {**STATES_OF_SERVICES, "started": StatusMeaning.CLOSE, "terminated": StatusMeaning.OPEN}
#: Signs that people read before the words.
SIGNS: Final[Mapping[str, str]] = {
    **dict.fromkeys("✅✔☑🟢💚👍", "ok"),
    **dict.fromkeys("❌🔴🚨🔥🛑⛔❗‼💥🆘⚠🟠🟡💀✖", "problem"),
}
_VERSION: Final = re.compile(r"v?\d+")
MAX_TITLE_CHARS: Final = 300
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})")
_MAX_CHARS: Final = 100


#: What was done with an alert that is known already: "ACKNOWLEDGEMENT", "DOWNTIMESTART", "alert_acknowledged". What a
#: tool calls a notification may say so in other words, too.
_NOTICE: Final = re.compile(
    r"(?:alert|alarm|incident|problem|issue|case|host|service|check|monitor|trigger|notification)*"
    r"(?:(?P<acknowledged>acknowledge?(?:ment|d)|ack(?:ed)?)|(?P<downtime>downtime(?:start|end|cancell?ed|removed))"
    r"|(?P<flapping>flapping(?:start|stop|end|disabled))|(?P<silenced>(?:silenced?|muted?|snoozed?)(?:created|added)?)"
    r"|(?P<commented>(?:comment|note|annotation)(?:added|created)))"
)
_NOTICE_OF_NOTIFICATION: Final = re.compile(
    r"(?:custom)?(?:(?P<acknowledged>ack)|(?P<downtime>downtime|maintenance)|(?P<flapping>flapping)).*"
)


@lru_cache(maxsize=2048)
def notice_of(text: str, *, is_of_notification: bool = False) -> str | None:
    """Returns what was done with a known alert, as a status; None if a text says nothing of that kind.
    `is_of_notification`: its name says that it is the type of a notification."""
    joined = "".join(words_of(text[:_MAX_CHARS]))
    found = _NOTICE.fullmatch(joined) or (_NOTICE_OF_NOTIFICATION.match(joined) if is_of_notification else None)
    return found.lastgroup if found is not None else None


#: What happens every day to things that no alert is about, such as "order.created" and "Konfiguration geändert".
_DAILY: Final = frozenset({
    "add", "added", "approved", "booked", "granted", "change", "changed", "create", "created", "delivered", "deployed",
    "edited",
    "exported", "import", "imported", "installed", "issued", "launch", "launched", "merged", "modified", "placed",
    "provisioned", "publish", "published", "push", "pushed", "put", "register", "registered", "renamed", "rotated",
    "saved", "scaled", "shipped", "submitted", "tagged", "update", "updated", "upload", "uploaded", "upgraded",
    "aktualisiert", "angelegt", "erstellt", "geändert", "hinzugefügt", "hochgeladen", "installiert", "veröffentlicht",
    "ajouté", "ajoutée", "créé", "créée", "modifié", "modifiée", "publié", "publiée", "creado", "creada", "modificado",
    "modificada", "creato", "creata", "modificato", "modificata", "aangemaakt", "gewijzigd",
})  # fmt: skip
_DAILY_THINGS: Final = frozenset({
    "access", "paket", "patch", "update", "updates", "account", "address", "appointment", "artifact", "asg",
    "autoscaling", "booking", "branch", "build", "cart",
    "comment", "commit", "config", "configuration", "contact", "contract", "customer", "deal", "deployment", "document",
    "email", "form", "image", "instance", "invoice", "item", "lead", "member", "object", "order", "package", "page",
    "password", "post", "preferences", "price", "product", "profile", "project", "pull_request", "quote", "release",
    "report", "repo", "repository", "request", "review", "settings", "shipment", "snapshot", "subscription", "tag",
    "template", "user", "bestellung", "einstellung", "einstellungen", "konfiguration", "kunde", "passwort", "rechnung",
    "commande", "facture", "utilisateur", "configuración", "factura", "pedido", "usuario", "configurazione", "fattura",
    "ordine", "utente", "bestelling", "configuratie", "factuur", "gebruiker",
})  # fmt: skip
#: What has changed is no thing but its state.
_STATES: Final = frozenset({"state", "status", "health", "alert", "alarm", "incident", "problem", "issue", "severity"})
_DAILY_EVENT: Final = re.compile(
    r"(?:user|account|session)?(?:login|loggedin|logout|loggedout|signin|signedin|signup|signedup)"
    r"(?:succeeded|success)?"
)


@lru_cache(maxsize=2048)
def is_daily_event(text: str) -> bool:
    """Returns whether an event is one of every day, such as "order.created": nothing that anybody is woken for."""
    words = words_of(text[:_MAX_CHARS])
    if not (FAILURES | _STATES).isdisjoint(words) or _meaning_of(text) is StatusMeaning.CLOSE:
        return False
    things = {word.removesuffix("s") for word in words} | {*words, *map("_".join, pairwise(words))}
    is_daily = not _DAILY.isdisjoint(words) and not _DAILY_THINGS.isdisjoint(things)
    return is_daily or _DAILY_EVENT.fullmatch("".join(words)) is not None


#: Words that a kind may use for what is no problem, such as a comment that was created.
_AMBIGUOUS: Final = frozenset({
    "new", "create", "created", "creating", "set", "start", "started", "starting", "unknown", "test", "testing",
})  # fmt: skip
ACTING: Final = (StatusMeaning.OPEN, StatusMeaning.CLOSE)

#: Words that say nothing inside of a status: "Long-running query", "stopped_reporting" and "reset-both".
_NOT_TELLING: Final = _COMPLETIONS | WEAK | _CONTENTLESS | {"reset"}

#: "This is a test message", "Webhook test": a message that no problem caused.
_TEST: Final = re.compile(
    r"(?i)\W*(?:(?:this )?is (?:just |only )?an? )?(?:sample|test|testing) (?:web ?hook |alert |event )?"
    r"(?:notification|message|web ?hook|alert|event|delivery|payload|incident)\b"
    r"|\W*\w+ test (?:notification|message|web ?hook|delivery|payload)\b"
    r"|\W*(?:\w+[ ._:-])?(?:web ?hook|notification|alert)[ ._:-](?:test(?:ing)?|verification)\b"
    r"|\W*(?:(?:dies|das) ist (?:nur )?eine? )?test(?:nachricht|meldung|alarm)\b"
    r"|\W*(?:ceci est )?(?:une? |un )?(?:message|notification|alerte|mensaje|messaggio) "
    r"(?:de test|de prueba|di prova)\b"
)
_TEST_EVENT: Final = re.compile(r"(?i)(?:.*[._:-])?(?:test|ping|handshake|verification)(?:[._-]event)?")


def is_test(text: str) -> bool:
    """Returns whether a text says that its message is a test, such as "Webhook test"."""
    return _TEST.match(text) is not None


def is_test_event(event: str) -> bool:
    """Returns whether an event is one of a test, such as "ping" and "webhook.test"."""
    return _TEST_EVENT.fullmatch(event) is not None


def meaning_of(status: str, *, is_own: bool = False) -> StatusMeaning | None:
    """Returns what a status means, such as "RESOLVED", "alert.fired" or "[OK] CPU"; None if its words are unknown, or
    disagree. `is_own`: a kind's own path found it, so that ambiguous words mean nothing."""
    if is_own and status.casefold() in _AMBIGUOUS:
        return None
    return _meaning_of(status[:_MAX_CHARS])


@lru_cache(maxsize=2048)
def _meaning_of(status: str) -> StatusMeaning | None:
    # The last word of "check.recovered.v1" is no status.
    words = [word for word in words_of(status) if not _VERSION.fullmatch(word)]
    if not words:
        return _meaning_of_sign(status)
    if len(words) > 1 and words[-2] in SERVICES and words[-1] in _EVENTS_OF_SERVICES:
        return _EVENTS_OF_SERVICES[words[-1]]
    if CODE.fullmatch(status) and not DEGREES.isdisjoint(words) and MEANINGS.keys().isdisjoint(words):
        return StatusMeaning.OPEN  # too much or too little: "disk_full", "HIGH_TEMP"
    if len(words) == 2 and words[0] in _OVER_AGAIN and CODE.fullmatch(status):
        return StatusMeaning.CLOSE  # "ResolvedCritical": what was critical is over
    is_negated = not NEGATIONS.isdisjoint(words)
    meaning = next(filter(None, map(meaning_of_word, phrases_of(words))), None)
    if is_negated and not any(meaning_of_word(phrase) for phrase in phrases_of(words)[:3] if "_" in phrase):
        # "not ok" and "nicht erreichbar" are the opposite; "no_data" is a word of its own.
        return StatusMeaning.OPEN if meaning is StatusMeaning.CLOSE else None
    if is_negated:
        return meaning
    if meaning is not None and words[-1] not in WEAK:
        return meaning
    telling = [word for word in words if word not in _NOT_TELLING]
    meanings = {found for word in telling if (found := meaning_of_word(word)) is not None}
    return meanings.pop() if len(meanings) == 1 else meaning or _meaning_of_sign(status)


#: Words that say of some things that all is well, or that something is wrong, and of others nothing.
UNCLEAR: Final = _COMPLETIONS | WEAK | {
    "active", "actif", "activa", "activo", "attiva", "attivo", "gone", "alert", "available", "bad", "clean",
    "connected", "exception", "good", "identified", "live", "major",
    "minor", "on", "ready", "running", "safe", "stable", "starting", "unknown", "valid", "working",
}  # fmt: skip


@lru_cache(maxsize=2048)
def is_clear(status: str) -> bool:
    """Returns whether a status has a word that can hardly say something else: "down", and not "active"."""
    return any(word not in UNCLEAR and meaning_of_word(word) is not None for word in phrases_of(words_of(status)))


#: Flags of what the sender shall do, or can do.
_SETTINGS: Final = frozenset({
    "allow", "allowed", "auto", "can", "disable", "disabled", "email", "enable", "enabled", "expect", "expected",
    "ignore", "ignored", "include", "muted", "notify", "notified", "require", "required", "send", "sent", "should",
    "show", "skip", "support", "supports", "use", "when", "will", "config", "count", "blacklisted", "schema", "blocked",
    "banned", "ban", "number", "times", "total",
})  # fmt: skip
_AUXILIARIES: Final = frozenset({"is", "are", "has", "have", "had", "was", "were", "been", "in", "ist", "hat", "est"})
#: What is wrong if it is there.
_FLAG_NOUNS: Final = frozenset({
    "activated", "defaut", "errors", "failures", "fire", "flood", "gestoert", "incident", "intrusion", "leak",
    "leakage", "overheating", "smoke", "tamper", "water", "waterleak", "alarm_status", "alarm_state", "alert_status",
    "alert_state", "over_limit", "over_threshold", "over_quota", "over_budget", "above_limit", "above_threshold",
    "out_of_range",
})  # fmt: skip
_WELL_NOUNS: Final = frozenset({"operation", "allclear", "backonline", "registered", "running", "backtonormal"})
_NO_FLAGS: Final = _COMPLETIONS | _AMBIGUOUS | {
    "bad", "clean", "closing", "good", "inactive", "live", "major", "minor", "new", "on", "set", "critical", "warning",
    "urgent", "severe", "emergency", "crit", "warn", "available", "regression", "fatal",
}  # fmt: skip
_JOINED_FLAG: Final = re.compile(
    r"(?:is|are|has|have|had|was|in|on|alert|alarm|incident|problem|check|service|system|test|all)+"
)


@lru_cache(maxsize=4096)
def meaning_of_flag(words: tuple[str, ...]) -> StatusMeaning | None:
    """Returns what a flag means that is true, by the words of its name: `isFiring`, `backToNormal`; None if it is
    none."""
    if not _SETTINGS.isdisjoint(words):
        return None
    if words == ("is", "available"):
        return StatusMeaning.CLOSE
    telling = [word for word in words if word not in _AUXILIARIES]
    is_negated = bool(telling) and telling[0] in {"not", "non", "no"} and meaning_of_word("_".join(telling)) is None
    meaning = _meaning_of_flag(telling[1:] if is_negated else telling)
    if is_negated and meaning is not None:
        return StatusMeaning.CLOSE if meaning is StatusMeaning.OPEN else StatusMeaning.OPEN
    return meaning


def _meaning_of_flag(words: list[str]) -> StatusMeaning | None:
    prefix = _JOINED_FLAG.match(words[0]) if len(words) == 1 and words[0] not in MEANINGS else None
    if prefix is not None and prefix.end() < len(words[0]):
        words = [words[0], words[0][prefix.end() :]]
    for phrase in phrases_of(words):
        if phrase in _WELL_NOUNS:
            return StatusMeaning.CLOSE
        if phrase in _FLAG_NOUNS:
            return StatusMeaning.OPEN
        if phrase not in _NO_FLAGS and (meaning := meaning_of_word(phrase)) in ACTING:
            return meaning
    return None


@lru_cache(maxsize=2048)
def is_failure(status: str) -> bool:
    """Returns whether a status says of anything that it failed, such as "failure" or "ERROR"."""
    return meaning_of(status) is StatusMeaning.OPEN and not FAILURES.isdisjoint(phrases_of(words_of(status)))


_PROBLEMS: Final = (OPENING_WORDS | _FLAG_NOUNS | {"high", "low", "full", "slow", "lag", "hoch", "niedrig"}) - UNCLEAR
#: Those that are in no name of a healthy thing: "Smoke detector", "Alarm panel".
_FAULTS: Final = _PROBLEMS - _FLAG_NOUNS - {"alarm", "fire"}
_WRONG: Final = re.compile(r" .*\b([45]\d\d|above|below|over|than|needed|refused|denied|rising|not found)\b|\d ?%")


def names_failure(text: str) -> bool:
    """Returns whether a sentence has a word of a failure, or of too much or too little."""
    return not _PROBLEMS.isdisjoint(words_of(text[:MAX_TITLE_CHARS]))


def names_fault(text: str) -> bool:
    """Returns whether a text says that something is wrong: "Queue too slow", "Disk at 95 %", "word not found"."""
    words = words_of(text[:MAX_TITLE_CHARS])
    return (NEGATIONS.isdisjoint(words) and not _FAULTS.isdisjoint(words)) or _WRONG.search(text) is not None


def is_bare_status(text: str) -> bool:
    """Returns whether a text is nothing but a word that says of anything that it failed or is over."""
    return len(text) <= _MAX_BARE_CHARS and text[:1].isalpha() and "_".join(words_of(text)) in BARE


def is_kind(status: str) -> bool:
    """Returns whether a status of several words may be a kind of message: "exceptionAlert"."""
    words = words_of(status)
    return len(words) > 1 and words[-1] in _KINDS


@lru_cache(maxsize=2048)
def is_completion(status: str) -> bool:
    """Returns whether a status says that something ended, and not how, such as "build.finished"."""
    words = words_of(status)
    is_of_problem = len(words) > 1 and not (_KINDS - {"test"}).isdisjoint(words)
    return not _COMPLETIONS.isdisjoint(words) and not is_of_problem and meaning_of(status) is StatusMeaning.CLOSE


@lru_cache(maxsize=2048)
def goes_on(status: str) -> bool:
    """Returns whether a status says that something goes on, and not how, such as "incident.updated"."""
    return not _CONTENTLESS.isdisjoint(phrases_of(words_of(status))[-2:])


def _meaning_of_sign(text: str) -> StatusMeaning | None:
    return next((meaning_of_word(SIGNS[char]) for char in text[:2] if char in SIGNS), None)


def words_of(text: str) -> list[str]:
    """Returns the words of a text or a name in lower case."""
    return [word for word in re.split(r"[^\w']+|_", _CAMEL.sub(" ", text).casefold()) if word]


def phrases_of(words: list[str]) -> tuple[str, ...]:
    return ("_".join(words), "_".join(words[-3:]), "_".join(words[-2:]), *words[-1:])


def meaning_of_word(word: str) -> StatusMeaning | None:
    return MEANINGS.get(word) or (_meaning_of_form(word) if _MIN_FORM <= len(word) <= _MAX_FORM else None)


MEANINGS: Final = {
    **dict.fromkeys(UPDATING_WORDS, StatusMeaning.UPDATE),
    **dict.fromkeys(OPENING_WORDS, StatusMeaning.OPEN),
    **dict.fromkeys(CLOSING_WORDS, StatusMeaning.CLOSE),
}
#: The length of words that may be another form of a known one, in characters.
_MIN_FORM: Final = 6
_MAX_FORM: Final = 30
#: How German names of problems end: "Netzausfall".
_COMPOUND_ENDS: Final = ("ausfall", "fehler", "störung", "alarm")
#: Endings of plurals, genders and participles, and those of the form in the tables.
_FORMS: Final = (
    ("ing", ("", "e", "ed")), ("es", ("", "e")), ("as", ("o", "a")), ("os", ("o",)), ("s", ("", "ed")), ("a", ("o",)),
    ("i", ("o",)), ("en", ("",)), ("e", ("", "o", "ed")), ("", ("ed", "d")),
)  # fmt: skip


@lru_cache(maxsize=4096)
def _meaning_of_form(word: str) -> StatusMeaning | None:
    """Returns what a word means by another form of it: "restablecida", "recovering", "rétablis"."""
    if word.endswith(_COMPOUND_ENDS):
        return StatusMeaning.OPEN
    for ending, others in _FORMS:
        if word.endswith(ending):
            stem = word[: len(word) - len(ending)]
            for other in others:
                if (meaning := MEANINGS.get(stem + other)) is not None:
                    return meaning
    return None


_NEW_WORDS: Final = frozenset({
    "new", "create", "created", "creation", "add", "added", "insert", "inserted", "log", "logged", "open", "opened",
    "raise", "raised", "submit", "submitted",
})  # fmt: skip
#: What is new is something in a ticket, not the ticket.
_PARTS_OF_TICKET: Final = frozenset({
    "action", "approval", "article", "asset", "attachment", "comment", "contact", "customer", "email", "entry",
    "feedback", "field", "followup", "link", "log", "message", "note", "part", "reply", "response", "survey", "tag",
    "task", "time", "user", "worklog",
})  # fmt: skip
#: What else a service desk keeps; "ticket_created_by_company" is new all the same.
_OTHER_RECORDS: Final = frozenset({
    "agreement", "appointment", "client", "company", "contract", "department", "device", "domain", "invoice", "kb",
    "lead", "license", "order", "organisation", "organization", "product", "quotation", "quote", "site", "subscription",
    "supplier", "vendor",
})  # fmt: skip


@lru_cache(maxsize=1024)
def is_new_ticket(event: str) -> bool:
    """Returns whether an event says that a ticket is new, such as "ticket_created" or "New Ticket Logged"."""
    words = set(re.split(r"[\W_]+", _CAMEL.sub(" ", event[:_MAX_CHARS]).casefold()))
    if words & (_PARTS_OF_TICKET - _NEW_WORDS) or (words & _OTHER_RECORDS and not words & _TICKETS):
        return False
    return bool(words & _NEW_WORDS)


#: First statuses of tickets, as service desks call them: new in several languages, and others.
_NEW_STATUSES: Final = frozenset({"new", "neu", "nouveau", "nouvelle", "nuevo", "nueva", "nuovo", "novo", "nieuw"})
_OPEN_STATUSES: Final = _NEW_STATUSES | {
    "open", "opened", "reopened", "created", "logged", "registered", "submitted", "received", "unassigned", "triage",
    "untriaged", "offen", "erfasst", "eingegangen", "ouvert", "ouverte", "abierto", "abierta", "aperto", "aperta",
    "aberto", "aberta",
}  # fmt: skip
#: Last ones. "Resolved" is one only where the rules say so.
_CLOSED_STATUSES: Final = frozenset({
    "closed", "complete", "completed", "cancelled", "canceled", "done", "finished", "geschlossen", "abgeschlossen",
    "erledigt", "storniert", "fermé", "fermée", "clôturé", "clôturée", "cloturé", "clos", "close", "terminé",
    "terminée", "annulé", "annulée", "chiuso", "chiusa", "completato", "completata", "annullato", "annullata",
    "cerrado", "cerrada", "completado", "completada", "cancelado", "cancelada", "anulado", "gesloten", "afgesloten",
    "afgerond", "geannuleerd", "fechado", "fechada", "encerrado", "concluído", "concluido",
})  # fmt: skip
#: What an event or a status may call the ticket itself.
_TICKETS: Final = frozenset({
    "ticket", "incident", "issue", "request", "case", "call", "alert", "event", "problem", "change",
})  # fmt: skip
#: Words that say nothing beside another, in "the ticket has been closed" and "status changed to closed".
_AROUND: Final = frozenset({
    "a", "all", "and", "as", "auto", "automatically", "been", "changed", "fully", "has", "is", "now", "set", "state",
    "status", "the", "to", "updated", "was", "auf", "est", "ist", "stata", "stato", "und", "wurde", "été", "è",
})  # fmt: skip
#: What follows is who did it, or why.
_DETAILS: Final = frozenset(
    {"as", "because", "by", "due", "from", "in", "through", "via", "als", "durch", "par", "da", "door", "por"}
)
#: What a ticket waits for, so that it is not over, and not new: "Completed - awaiting sign-off".
_WAITING: Final = frozenset({
    "awaiting", "hold", "pending", "wait", "waiting", "warten", "wartet", "attente", "attesa", "espera",
})  # fmt: skip
#: Words of a status of a ticket that somebody has seen.
_SEEN: Final = _WAITING | {
    "accepted", "actioned", "approval", "approved", "assigned", "client", "customer", "deferred", "dispatched",
    "escalated", "investigating", "parked", "planned", "progress", "resolved", "responded", "review", "scheduled",
    "solved", "supplier", "testing", "third", "user", "vendor", "with", "working", "arbeit", "bearbeitung", "geplant",
    "gelöst", "rückfrage", "cours", "planifié", "résolu", "corso", "risolto", "curso", "behandeling",
}  # fmt: skip
#: Words of an event of a ticket that is not new.
_LATER: Final = frozenset({
    "accept", "accepted", "acknowledge", "assign", "assigned", "breach", "breached", "change", "changed", "deadline",
    "edited", "escalated", "found", "merged", "modified", "reassigned", "reconciliation", "reminder", "replied",
    "reply", "responded", "sla", "status", "test", "unassigned", "update", "updated", "warning",
})  # fmt: skip
#: For whom Halo sends an event.
_FLAVOUR: Final = re.compile(r"(?i)\s[-–(]\s*(all|assigned)\)?\s*$")


def is_new_status(status: str) -> bool:
    """Returns whether a ticket's status says that it is new, and no more: "Neu"."""
    return status.strip().casefold() in _NEW_STATUSES


@lru_cache(maxsize=1024)
def is_open_status(status: str) -> bool:
    """Returns whether a ticket's status says that it is new or open, and no more: not "Open - waiting for parts"."""
    first, *others = _statements(status)
    if not _SEEN.isdisjoint(word for words in others for word in words):
        return False
    telling = [word for word in first if word not in _TICKETS | {"for", "awaiting", "needs", "to", "be"}]
    return bool(telling) and _OPEN_STATUSES.issuperset(telling)


@lru_cache(maxsize=2048)
def is_closed_status(status: str) -> bool:
    """Returns whether a ticket's status says that it is closed, and no more: "Completed by vendor", and not "Completed,
    awaiting sign-off", "Not completed" and "Visit cancelled"."""
    first, *others = _statements(status)
    if not _WAITING.isdisjoint(word for words in others for word in words):
        return False
    telling = [word for word in _without_details(first) if word not in _TICKETS | _AROUND | {"resolved"}]
    return bool(telling) and _CLOSED_STATUSES.issuperset(telling)


@lru_cache(maxsize=1024)
def may_be_new(status: str) -> bool:
    """Returns whether a ticket's status does not say that somebody has seen it: "Awaiting triage", "Cellar"."""
    if is_open_status(status):
        return True
    if meaning_of(status) in (StatusMeaning.UPDATE, StatusMeaning.CLOSE) or is_closed_status(status):
        return False
    return _SEEN.isdisjoint(word for words in _statements(status) for word in words)


@lru_cache(maxsize=1024)
def is_of_known_ticket(event: str) -> bool:
    """Returns whether an event is one of a ticket that is not new, or of something else: "ticket updated", "SLA
    warning", "note added", "New Client Created"."""
    words = set(words_of(event[:_MAX_CHARS]))
    return (
        bool(words & (_LATER | _PARTS_OF_TICKET) or (words & _OTHER_RECORDS and not words & _TICKETS))
        or meaning_of(event) in (StatusMeaning.UPDATE, StatusMeaning.CLOSE)
        or is_test_event(event)
    )


@lru_cache(maxsize=1024)
def status_in_event(event: str) -> str | None:
    """Returns what an event says of the ticket itself in one word: "closed" of "Ticket closed - All" and "ticket has
    been closed by Noor"; None of "child ticket closed" and "comment_closed"."""
    words = _without_details(words_of(_FLAVOUR.sub("", event[:_MAX_CHARS])))
    telling = [word for word in words if word not in _TICKETS | _AROUND and not _VERSION.fullmatch(word)]
    telling = telling or words[-1:]
    return telling[0] if len(telling) == 1 else None


@lru_cache(maxsize=1024)
def meaning_of_ticket_event(event: str) -> StatusMeaning | None:
    """Returns what an event says of the ticket itself, such as "ALERT" and "incident.resolved"; None for a test, and
    for anything else that happened, such as "comment_closed" and "SLA warning"."""
    status = status_in_event(event)
    return meaning_of_word(status) if status is not None and not is_test_event(event) else None


def _statements(status: str) -> list[list[str]]:
    return [words_of(part) for part in STATEMENT_ENDS.split(status.strip()[:_MAX_CHARS])]


def _without_details(words: list[str]) -> list[str]:
    end = next((place for place, word in enumerate(words) if place and word in _DETAILS), len(words))
    return words[:end]


# ---------- status in titles
# What a title or a sentence says of a status, and what it is about without it: "[RESOLVED] CPU high on db1". Pure.


#: "DB is back online", "The attack ended on web1", "no longer down": it is over, wherever a sentence says so.
_OVER: Final = re.compile(
    r"\b(?:(recovered|resolved|restored|cleared|ended|rétablie?|behoben|wiederhergestellt|resuelt[oa]|reconnected)"
    r"|(?:back|returned) (?:to normal|online|up|in service|below|within)|no longer|nicht mehr"
    r"|^(?:end of|fin d[eu]|ende (?:der|des)) (?:alarm|alert|incident|outage|panne|défaut|störung|ausfall)"
    r"|^(?:closed|clear|normal)(?= (?:via|by|after|at|since|on|for)\b)"
    r"|(?:is|are|now|again|currently) (?:up|ok|online|normal|healthy|reachable|available|back|fine|ready"
    r"|running(?! out| low))"
    r"|(?:up|online|normal|healthy|reachable|available|running|connected|erreichbar) again"
    r"|wieder (?:da|normal|online|ok|unter|über|im|innerhalb)"
    r"|(?:responds|responding|works|working|runs) again|(?:antwortet|reagiert|funktioniert|läuft) wieder"
    r"|(?:répond|fonctionne) (?:de|à) nouveau|(?:responde|funciona) de nuevo"
    r"|(?:rebuil\w+|resilver\w*|resync\w*|repair\w*) (?:is |has |was )?(?:complete[ds]?|done|finished)"
    r"|(?:has|is) returned(?= (?:on|to|at)\b|$)"
    r"|exit(?:ed)? (?:with )?(?:status|code) 0|on (?:line|mains|utility|ac) power"
    r"|(?:completed|finished|ended) (?:successfully|ok)|successfully (?:completed|finished|ended))\b"
)
_NOT_WORKING: Final = re.compile(
    r"\b(?:not|n't|no longer|nicht|nicht mehr|pas|niet) (?:\w+ )?"
    r"(?:running|respond\w*|reachable|available|ok|up|online|healthy|connected|working|ready|erreichbar|verfügbar)\b"
    r"|\b(?:stopped|ceased) (?:work|respond|runn|report|send|answer)ing\b|\b(?:fail(?:ed|s|ing)|unable) to\b"
    r"|\bexit(?:ed)? (?:with )?(?:status|code) [1-9]|\b(?:could|can) ?not\b|\bne \w+ (?:plus|pas)\b"
    r"|\bn(?:o|on|ão) (?:responde|risponde|funciona|funziona)\b"
    r"|\b(?:antwortet|reagiert|funktioniert|läuft|startet|reageert|werkt) (?:nicht|niet)\b"
    r"|\b(?:ended|closed|stopped|exited|terminated|finished) (?:unexpectedly|abnormally|prematurely)\b"
    r"|\bwith (?:[1-9]\d* )?(?:error|warning|failure|problem|issue)s?\b"
)
#: A state in the middle of a sentence: "Link up on port 12", "Disk OK on db1".
_STATE: Final = re.compile(
    r"\b(?:link|interface|port|tunnel|host|node|peer|neighbor) (up)\b|\b(?:check|test|probe) (passed)\b"
    r"|\b(?:incident|alert|alarm|problem|issue)(?: #?\w*\d+)? (closed)\b"
    r"|\b(?:(succeeded|renewed|healthy|ok|normal|online|reachable|fixed|passed))"
    r"(?= (?:on|for|in|at|after|since|from)\b| ?\()"
)
_CAPITALS: Final = re.compile(r"\b[A-Z]{2,}\b")
#: What a title is about, in front of its status: "gw backup: failed rc=255".
_STATUS_PART: Final = re.compile(r"(.{3,}?)(?:: | - | – | \| )\W*(\w+)")
#: What a sentence is about, in front of its status.
_ABOUT: Final = re.compile(
    r"(.*?\w.*?)\s(?:is|are|has|have|was|went|became|ist|wurde|est|está|è)\s"
    r"(?:(?:now|been|back|again|currently|no longer|not|wieder|to|in|into)\s)*(\w+)"
)
#: "[FIRING:1] CPU", "RECOVERY: Mail queue": a tag in front of a title.
_TAG: Final = re.compile(r"\W*(?:\[\s*(\w[^\]]{1,60})\]|([A-Z][A-Z_ -]{1,30}):(?=\s)|(\w{2,20})(?: (?:-|–|\|) |: ))")
#: ":red_circle: VPN is down", a sign as chats write it.
_SIGN_CODE: Final = re.compile(
    r"\W*:(?:(red_circle|large_red_square|x|fire|rotating_light|warning|no_entry\w*|skull|boom|bangbang|exclamation)"
    r"|(?:large_)?green_\w+|\w*check_mark|ok|thumbsup):"
)
#: "Better clean that up."
_VERBS_WITH_UP: Final = frozenset({
    "catch", "check", "clean", "follow", "free", "give", "it", "keep", "look", "pick", "set", "speed", "that", "them",
    "things", "this", "wake",
})  # fmt: skip
#: "Was down for 14 min."
_WAS_DOWN: Final = re.compile(r"(?i)(?:\w+ )?(?:was|were) (?:down|offline|unreachable|unavailable) for\b")
#: "Changed from OK to CRITICAL", "Up -> Down".
_CHANGE: Final = re.compile(r"(\w+) ?(?: to | nach | zu | auf | vers | a |->|=>|→) ?(\w+)")
_FROM_TO: Final = re.compile(r"(?i) (?:from|von|de|da) \w+ (?:to|nach|zu|auf|vers|a) (\w+)")
#: "(was down for 4m)", which is over.
_ASIDE: Final = re.compile(r"(?i) ?\((?:was|were|after|war|nach|durée|duration)\b[^)]*\)")
_CLAUSE_ENDS: Final = re.compile(r"[.!?;:,]\s+|\s[-–—|]\s")
_MAX_CLAUSES: Final = 6


def status_in_tag(title: str) -> str | None:
    """Returns the status that the tag or the sign in front of a title says: "[RESOLVED] CPU"."""
    title = title.strip()[:MAX_TITLE_CHARS].partition("\n")[0]
    if (code := _SIGN_CODE.match(title)) is not None:
        return "problem" if code[1] is not None else "ok"
    if (tag := _TAG.match(title)) is not None:
        tag_words = words_of(tag[1] or tag[2] or tag[3])
        # "connect: Connection refused" begins with what a program tried, which is a form of "connected".
        find = meaning_of_word if tag[3] is None else MEANINGS.get
        # "[FIRING:1]" and "[Recovered on db1]" begin with the status.
        for status in ("_".join(tag_words), *tag_words[:1]):
            if find(status) in ACTING:
                return status
    return next((SIGNS[char] for char in title[:2] if char in SIGNS), None)


def status_in_title(title: str) -> str | None:
    """Returns the status that the tag in front of a title or its words say: "[RESOLVED] CPU", "Shop is up!"."""
    if (status := status_in_tag(title)) is not None:
        return status
    title = _ASIDE.sub("", title)
    clauses = _CLAUSE_ENDS.split(title.strip()[:MAX_TITLE_CHARS].partition("\n")[0])
    if len(clauses) > 1 and (last := clauses[-1].strip("!.* ").casefold()) in BARE:
        return last
    found = [status for clause in clauses[:_MAX_CLAUSES] if (status := _status_in_clause(clause, title)) is not None]
    return found[0] if len({meaning_of_word(status) for status in found}) == 1 else None


def _status_in_clause(clause: str, title: str) -> str | None:
    words, folded = words_of(clause), clause.casefold()
    if len(words) < 2:
        return None
    if _WAS_DOWN.match(clause):
        return "resolved"
    if _NOT_WORKING.search(folded):
        return "failed"
    if (change := _CHANGE.search(folded)) is not None and {
        meaning_of_word(change[1]),
        meaning_of_word(change[2]),
    } == {*ACTING}:
        return change[2]
    has_failure = not FAILURES.isdisjoint(words)
    over = _OVER.search(folded)
    about = _ABOUT.match(clause) if NEGATIONS.isdisjoint(words) else None
    state = about[2].casefold() if about is not None and over is None else ""
    if state not in UNCLEAR and meaning_of_word(state) is StatusMeaning.OPEN:
        return state
    pairs = ["_".join(pair) for pair in pairwise(words)]
    phrase = next((pair for pair in pairs if pair in OPENING_WORDS), None)
    if not NEGATIONS.isdisjoint(words):
        # "No longer firing", and not "no longer starts".
        is_over = over is not None and not {"longer", "mehr"}.isdisjoint(words) and names_failure(folded)
        return "resolved" if is_over or not NO_PROBLEM.isdisjoint(pairs) else phrase
    if over is not None and over[1]:
        # "Recovered from Device Down", and not "Failed login restored".
        rest = words_of(folded[: over.start()])
        if not has_failure or words[-1] == over[1] or FAILURES.isdisjoint(rest):
            return over[1]
    has_end = phrase is None and not (words[-1] == "up" and words[-2] in _VERBS_WITH_UP)
    end = next((end for end in phrases_of(words) if end in TITLE_ENDS), None) if has_end else None
    if not has_failure and (over is not None or end is not None):
        return end or "resolved"
    if has_failure and meaning_of_word(words[-1]) is StatusMeaning.OPEN:
        return words[-1]
    if not has_failure and phrase is None and (state := _state_in(clause, names_problem=names_failure(title))):
        return state
    is_mixed = any(meaning_of_word(word) is StatusMeaning.CLOSE for word in words)
    if is_mixed or not has_failure:
        return None if is_mixed else phrase
    return next((word for word in words if word in FAILURES and word not in NOUNS), None)


def _state_in(clause: str, *, names_problem: bool) -> str | None:
    """Returns the state in the middle of a clause, maybe in capitals: "Job daily SUCCEEDED after 14m"."""
    capitals = {word.casefold() for word in _CAPITALS.findall(clause)} - UNCLEAR if clause != clause.upper() else set()
    state = next((word for word in sorted(capitals) if meaning_of_word(word) is StatusMeaning.OPEN), None)
    if state is not None or names_problem:
        return state
    found = _STATE.search(clause.casefold())
    return found[found.lastindex or 0] if found is not None else next(iter(sorted(capitals & TITLE_ENDS)), None)


#: A percentage, a time, or the number of a run: another one in the next message.
_MEASURED: Final = re.compile(
    r"#\d+|v?\d+([.,]\d+){1,2}|\d+([.,]\d+)?(%|ms|s|m|min|h|d|[kmgt]i?b|°?[cf]|v|w|a)|\d+:\d+(:\d+)?|\d{4}-\d\d-\d\d.*"
)
_QUANTITY: Final = re.compile(
    r"(?i)(?<![\w.-])[<>=]*\s?[-−]?\d+([.,]\d+)?\s?(%|ms|s|sec\w*|min\w*|hours?|days?|tage?n?|[kmgt]i?b|°?c|°f|volts?|w)(?![\w-])"
    r"|\b(?:is|now|at|bei|beträgt|est|à) \d+([.,]\d+)?(?![\w.-])"
    r"|exit\w* (?:with )?(?:status |code )?\d+|\bon (?:line|mains|utility|ac) power\b|\bwith (?:errors|warnings)\b"
    r"|\b(?:current |last )?(?:value|wert|valor|valeur|waarde)\W*\d+([.,]\d+)?(?![\w-])"
)
#: The time of a run in its name: "daily-20261128031400".
_TIME: Final = re.compile(r"[-_ ]?(?<!\d)(?:20\d{6}(?:[-_T]?\d{4,6})?|1\d{9}(?:\d{3})?)Z?(?![\w])")
#: "18233 > 5000".
_COMPARED: Final = re.compile(r"(?<![\w.-])(\d+([.,]\d+)? ?)?[<>]=? ?\d+([.,]\d+)?(?![\w-])")
#: "Backup of nas7 failed: disk full".
_DETAILED: Final = re.compile(r"(\w[^:]+) (\w+): \S")
_SEGMENT: Final = re.compile(r"\s[-–—|](?:\s|$)")
_FILLERS: Final = frozenset({
    "a", "an", "and", "back", "been", "by", "for", "from", "has", "have", "in", "is", "it", "its", "now", "of", "on",
    "the", "to", "was", "went", "with", "incident", "notice", "again", "only", "just", "still", "hat", "ist", "wurde",
    "wird", "und", "est", "ha", "after", "at", "came", "come", "gone", "no", "longer", "received",
})  # fmt: skip


#: What a title may call anything that it is about.
_ANY_THING: Final = frozenset({
    "app", "application", "check", "device", "host", "instance", "job", "machine", "monitor", "node", "sensor",
    "server", "service", "site", "system", "website",
})  # fmt: skip


def without_status(title: str) -> str:
    """Returns a title without the words that say a status: "[RESOLVED] CPU high" and "CPU high: OK" are "cpu high"."""
    title = _ASIDE.sub("", title)
    title = _FROM_TO.sub(lambda change: " " if meaning_of_word(change[1].casefold()) in ACTING else change[0], title)
    about = _ABOUT.match(title)
    if about is not None and MEANINGS.get(about[2].casefold()) in ACTING and "[" not in title[:2]:
        # "Monitor is DOWN: shop" is about the shop.
        title = about[1] + (title[about.end() :] if about[1].casefold() in _ANY_THING else "")
    part = _STATUS_PART.match(title)
    if part is not None and part[2].casefold() in FAILURES | TITLE_ENDS and MEANINGS.get(part[1].casefold()) is None:
        title = part[1]
    title = re.sub(r":[a-z]\w+:(?=\s)", " ", title)
    title = without_time(_QUANTITY.sub(" ", _COMPARED.sub(" ", _without_details_status_in_titles(title))))
    words = [word.strip(".-_/:") or word for word in re.findall(r"[\w.@/%#:°-]+", title)]
    # "timed out", "no data"
    folded = [word.casefold() for word in words]
    pairs = {i for i, pair in enumerate(pairwise(folded)) if "_".join(pair) in MEANINGS and pair[1] not in MEANINGS}
    words = [word for i, word in enumerate(words) if i not in pairs and i - 1 not in pairs]
    return " ".join(
        code
        for word in words
        if (folded := word.casefold()) not in _FILLERS
        and folded not in DEGREES
        and any(char.isalnum() for char in word)
        and not _MEASURED.fullmatch(folded)
        and MEANINGS.get(folded.partition(":")[0]) is None
        and (code := _code_without_status(word))
    )


def without_time(name: str) -> str:
    """Returns the name of a run without its time, such as "daily" of "daily-20261128031400"."""
    return _TIME.sub(" ", name).strip()


def _without_details_status_in_titles(title: str) -> str:
    """Returns a title up to what failed: "RESOLVED: core - health check failed - HTTP 500" without the last part."""
    detailed = _DETAILED.match(title)
    if detailed is not None and detailed[2].casefold() in FAILURES and any(map(str.isdigit, detailed[1])):
        return detailed[1]
    parts = _SEGMENT.split(title)
    for count, part in enumerate(parts[1:-1], 2):
        words = words_of(part)
        if len(words) > 1 and words[-1] in FAILURES | TITLE_ENDS:
            return " ".join(parts[:count])
    return title


def is_event_code(text: str) -> bool:
    """Returns whether a text is a code that has a status, such as "backup_failed"."""
    return " " not in text and _code_without_status(text) != text.casefold()


def _code_without_status(word: str) -> str:
    """Returns a code without the parts that say a status: "DEVICE_CONNECTED" and "deviceOffline" are "device"."""
    parts = words_of(word) if CODE.fullmatch(word) else ()
    if "." in word and parts and parts[-1] not in MEANINGS:
        return word.casefold()  # a host such as "db.online.example"
    telling = [part for part in parts if part not in MEANINGS and part not in _FILLERS and part not in DEGREES]
    return word.casefold() if len(telling) == len(parts) else "_".join(telling)
