"""The names that tools share for the fields of a message, whatever their spelling, and how values are found by them.
Pure.

A name is looked for at the top, and in the objects that tools wrap a message in (`message_objects`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Final

from tocsin.inbound.fields import CLEANERS, FIELDS, Value, text_of
from tocsin.inbound.mapping.message_objects import FORMER, fold
from tocsin.inbound.mapping.status_words import MEANINGS

#: Folded names with their places in an order of likelihood.
type Names = Mapping[str, int]

_MAX_NAME_CHARS: Final = 60
#: How many names of senders' fields a pattern remembers.
_MAX_NAMES: Final = 2048


class ByName[V](dict[str, V]):
    """What a folded name says, such as `places[name]`; `other` of one that is too long for a field's."""

    def __init__(self, read: Callable[[str], V], other: V) -> None:
        self._read, self._other = read, other

    def __missing__(self, name: str) -> V:
        if len(name) > _MAX_NAME_CHARS:
            return self._other
        if len(self) >= _MAX_NAMES:
            self.clear()
        value = self[name] = self._read(name)
        return value


class NamePattern(ByName[bool]):
    """Whether a folded name is one of many of the same ending, except of how it was: `pattern[name]`."""

    def __init__(self, text: str) -> None:
        regex = re.compile(text)
        super().__init__(lambda name: regex.fullmatch(name) is not None and FORMER.search(name) is None, other=False)


def in_order(names: Iterable[str]) -> Names:
    """Returns names in the order of their likelihood."""
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


HOST: Final = "component_name"
#: The names of a status itself; those of an event may mean the same in a message from a monitoring tool.
_STATUSES: Final = (
    "status", "state", "alert_status", "alert_state", "incident_status", "incident_state", "event_status",
    "event_state", "current_status", "current_state", "new_status", "new_state", "check_status", "check_state",
    "monitor_status", "monitor_state", "trigger_status", "problem_status", "ticket_status", "build_status",
    "job_status", "run_status", "resolution_state", "monitor_condition", "check_state_name", "alert_type_friendly_name",
    "phase", "lifecycle",
    "zustand", "ergebnis", "etat", "état", "statut", "résultat", "resultat", "estado", "resultado", "stato", "esito",
    "toestand", "situacao", "situação", "stan",
)  # fmt: skip

#: By field, the names in order of likelihood.
ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "source_id": (
        "dedup_key", "deduplication_key", "dedupe_key", "dedup", "idempotency_key", "unique_key", "message_key",
        "external_id", "incident_identifier", "incident_key", "alert_key", "problem_key", "event_key", "alert_id",
        "incident_id", "problem_id", "issue_id", "alarm_id", "case_id", "ticket_id", "event_object_id",
        "alert_cycle_key", "fingerprint", "alias", "group_key", "rule_id", "series_id", "series_uid", "monitor_id",
        "check_id", "sensor_id", "watch_id", "signal_id", "probe_id", "test_id", "episode_id", "condition_id",
        "trigger_id", "correlation_id", "entity_id", "entity_display_name", "uuid", "guid", "id", "uid", "event_id",
        "key", "token", "identifier",
    ),
    "source_status": (
        *_STATUSES,
        "alert_transition", "transition", "event_action", "event_type", "message_type", "notification_type",
        "alert_type", "action", "result", "outcome", "conclusion", "health", "condition", "type", "event", "event_name",
        "reason",
    ),
    "subject": (
        "subject", "title", "summary", "headline", "heading", "betreff", "titel", "titre", "objet", "título", "titulo",
        "asunto", "titolo", "oggetto", "onderwerp", "alert_title", "event_title", "incident_title", "issue_title",
        "event_definition_title", "short_description", "alert_name", "alertname", "rule_name", "monitor_name",
        "check_name", "alarm_name", "incident_name", "problem_name", "policy_name", "condition_name", "trigger_name",
        "name", "nombre", "nome", "nom", "naam", "bezeichnung", "service_name", "job_name", "project_name",
        "display_name", "entity_display_name", "alert_message", "state_message", "service_output", "message", "msg",
        "activity_title", "text", "description", "reason", "body", "content", "human_readable", "output", "error",
        "error_message", "log", "fallback", "meldung", "nachricht", "meldungstext", "beschreibung", "fehler", "mensaje",
        "descripcion", "descripción", "messaggio", "descrizione", "mensagem", "bericht", "résumé",
    ),
    "event": (
        "event", "event_type", "event_name", "triggered_event", "webhook_event", "event_action", "trigger", "action",
        "type",
    ),
    "severity": (
        "severity", "priority", "alert_severity", "alert_priority", "event_severity", "severity_level", "urgency",
        "level", "alert_level", "impact", "criticality", "importance", "stufe", "schweregrad", "priorität",
        "prioritaet", "dringlichkeit", "gravité", "gravite", "priorité", "priorite", "gravedad", "severidad",
        "prioridad", "gravità", "ernst", "prioriteit",
    ),
    "source_url": (
        "source_url", "html_url", "alert_url", "incident_url", "issue_url", "event_url", "monitor_url", "web_url",
        "dashboard_url", "permalink", "shortlink", "short_link", "link", "href", "url", "client_url", "details_url",
        "uri",
    ),
    "component_name": (
        "host", "hostname", "host_name", "node", "node_name", "server", "server_name", "instance", "device",
        "device_name", "machine", "hostname_and_port", "vm", "vm_name", "virtual_machine", "pod", "computer",
        "computer_name", "appliance", "gateway", "router", "switch", "printer", "controller", "rechner", "gerät",
        "geraet", "hôte", "hote", "serveur", "equipo", "dispositivo", "apparato", "appareil", "dispositif", "toestel",
        "servidor", "endpoint", "resource", "resource_name", "component",
        "entity", "source_host", "target",
    ),
}  # fmt: skip

#: The names of what is monitored: the same in a failure and its recovery.
MONITORED: Final = in_order((
    "formname", "formtitle", "monitorname", "monitorlabel", "monitortitle", "checkname", "checklabel", "rulename",
    "policyname", "controlname", "alertname", "alarmname", "conditionname", "jobname", "job", "taskname", "servicename",
    "service", "svc", "servicedesc", "servicedescription", "sensor", "check", "monitor", "projectname", "project",
    "pipeline", "workflow", "buildtype", "involvedobject", "app", "application", "auftrag", "dienst", "aufgabe",
    "servizio", "servicio", "tâche", "tache", "tarea", "plan", "scenario", "task", "flow", "sync", "suite", "schedule",
    "playbook", "dag", "targetgroup", "heartbeat", "stack", "test", "controle", "contrôle", "prüfung", "pruefung",
    "sonde", "capteur", "melder", "messstelle",
))  # fmt: skip
#: Names of what a run or a test is part of.
WHOLES: Final = in_order(("repository", "projectname", "project", "app", "application", "appname", "applicationname"))
MONITORED_PARTS: Final = in_order(name for name in MONITORED if name not in WHOLES)
#: Names of one of several that have the same title.
NAMES_OF_ONE: Final = in_order(("name", "module"))
#: What of a host it is about; so is a path, such as "/var" and "/dev/sda".
PARTS: Final = in_order(("mount", "mountpoint", "filesystem", "interface", "ifname", "drive", "volume", "disk"))
#: Where one of several problems of the same name is.
SERVICES: Final = in_order((
    "service", "servicename", "svc", "namespace", "pod", "container", "database", "queue", "domain",
))  # fmt: skip
#: Names that say in a title what it is about; several problems may have one.
SUBJECTS: Final = in_order((
    *(name for name in MONITORED if name not in WHOLES), "savedsearch", "rule", "exception", "context", "connection",
    "container", "database", "queue", "domain", "network", "metric", "metricname", "door", "zone", "room", "plant",
    "pool",
    "peer", "neighbor", "image", "package",
))  # fmt: skip
#: Of these, those that are no text of one failure.
LASTING_SUBJECTS: Final = in_order(name for name in SUBJECTS if name not in {"exception", "context"})
MONITORED_NAME: Final = NamePattern(
    r"(?!\w*(run|state|status|user|file))\w*(monitor|check|sensor|service|site|test|probe|task|flow|job|pipeline|workflow"
    r"|builder|app|application|database|container|network|queue|volume|interface|domain|certificate|cluster|pool|backup"
    r"|schedule|plan|policy|rule|connector|connection|camera|disk|array|port|circuit|webhost|website|stream|topic|plant"
    r"|room|zone|door|meter|battery|ups|tunnel|vpn|package|component|product|repo|repository|dataset|table|model|drive|budget"
    r"|collection)"
    r"\w{0,10}(name|label|title|descr)|(camera|ups|mddevice|disk|drive|volume|interface|array|pump|backup)"
)
HOST_NAME: Final = NamePattern(
    r"\w*(host|device|node|server|instance|item|machine|agent|resource|computer|endpoint|vm|gateway|router|switch|asset"
    r"|printer|controller|station|thing|target)(name|label|displayname|title|fqdn)|\w*failedhost"
)
#: What may fail that is no computer.
THING_NAME: Final = NamePattern(
    r"(machine|maschine|m[aá]quina|macchina|equipment|asset|anlage|unit|vehicle|fahrzeug|line|linie|leitung|room|raum"
    r"|pool|system|object|objekt|aufzug|lift|elevator|tank|pump|building|workload|bezeichnung)(name|label)?"
)
HOST_ID: Final = NamePattern(
    r"\w*(host|device|node|server|machine|instance|station|charger|chargepoint|asset|computer|camera|endpoint|vm|gateway|thing|sensor)"
    r"(id|uid|uuid|serial|serialnumber|mac|ident|identifier)"
)
#: Any other name of an id, a status, a severity, and a title.
ID_NAME: Final = NamePattern(
    r"(?!\w*(run|event|history|message|notification|policy|channel|category|type)(id|uid))"
    r"\w*(alert|alarm|incident|problem|issue|case|monitor|check|sensor|probe|rule|detection|finding|outage|fault|trigger"
    r"|threat|episode|anomaly|connector|watch|schedule|defect|dispute)"
    r"(id|uid|uuid|guid|identifier|key|ref|reference|number|no|arn|slug|hash)|eventarn|detectid"
)
STATUS_NAME: Final = NamePattern(
    r"\w*(status|state|condition|result|verdict|health|availability)(name|description|text|label|type|code|display|title|value|string|friendlyname)?"
)
ACTION_NAME: Final = NamePattern(r"\w*(action|transition|outcome|phase|(status|state)change(type)?)")
#: Names of what happened, which may say a status too.
HAPPENING_NAME: Final = NamePattern(
    r"\w*(event|alert|alarm|incident|notification|message|trigger|hook|webhook)?(type|subtype|category|kind|change"
    r"|operation|topic|code)|\w*(event|ereignis|evenement|événement|evento|anomaly|milestone)|activity|trap|trigger|data|value|qualifier|resolution|stage|colou?r"
)
SEVERITY_NAME: Final = NamePattern(
    r"\w*(severity|priority|criticality|urgency)(name|text|label|level|display)?|\w*(alert|risk|threat|alarm)level"
)
TITLE_NAME: Final = NamePattern(
    r"(?!page|window|document)\w*(title|subject|headline|heading|displayname|(issue|incident|alert|alarm|problem|event|threat|finding)(name|definition))"
)
SENTENCE_NAME: Final = NamePattern(
    r"\w*(reason|message|description|text|msg|note|comment|detail|details|info|explanation|error|cause|output|remark|exception"
    r"|meldung|nachricht|beschreibung|hinweis|melding|omschrijving|bericht|mensaje|descripci[oó]n|messaggio|descrizione"
    r"|mensagem|descri[cç][aã]o|texte|texto|testo|opis)"
)
#: The kind of a problem, which is a title if it has several words.
TYPE_NAME: Final = NamePattern(
    r"\w*(alert|event|alarm|issue|problem|incident|anomaly|trigger|detection|notification|finding)"
    r"(type|typecode|typename|category|code|subtype|kind)|anomaly|cat|category|event|type|typ|ereignis|evenement"
    r"|événement|evento"
)
#: A sentence, if it has several words.
HEADLINE: Final = in_order((
    "alert", "alarm", "problem", "issue", "incident", "finding", "signature", "vulnerability", "error", "event",
    "threat", "alerte", "alarme", "alerta", "alarma", "allarme", "störung", "stoerung", "panne", "problema", "problème",
    "probleme", "probleem", "defaut", "défaut", "guasto", "fehler", "falla", "avería", "averia", "storing",
))  # fmt: skip
#: What failed.
FAULT_NAME: Final = NamePattern(
    r"\w*(fault|error|failure|problem|anomaly|violation|threat|malware|virus|attack|signature|vulnerability|detection"
    r")(name|code|type|reason)|anomaly|threat|fault"
)
#: A name of a thing, if there is no better one.
ANY_NAME: Final = NamePattern(
    r"(?!\w*(user|actor|owner|author|assignee|creator|sender|org|organi[sz]ation|account|tenant|team|customer|company"
    r"|client|webhook|integration|channel|file|first|last|nick|event|product|vendor|source|group|os|region|zone|metric"
    r"|run|country|continent|city)name)\w*name|\w+label"
)
#: The kind of thing in the name of its name: the "budget" of a `budgetDisplayName`.
KIND_OF_NAME: Final = re.compile(
    r"(?!full|short|display|friendly|host|device)(\w{3,}?)(display|friendly|full)?(name|label|title)"
)
#: The address of what is monitored, and not of a page about it.
MONITORED_URL: Final = NamePattern(
    r"\w*(check|monitor|target|request|requested|website|site|endpoint|service|test|probe|page|host|domain)"
    r"(url|uri|address)|website|site|domain|target|endpoint|monitor|check"
)
#: Names of what is no thing that an alert may be about, whatever its value.
OTHER_ROLE: Final = NamePattern(
    r"\w*(ids?|uid|uuid|guid|key|hash|token|secret|password|url|uri|link|href|time|date|(ed|sent)at|timestamp|when"
    r"|timezone|zeit|datum|version|status|state|zustand|severity|priority|level|urgency|type|kind|category|code|class"
    r"|source|channel|provider|vendor|manufacturer|region|env|environment|locale|lang|language|currency|method|agent"
    r"|platform|model|mode|role|email|mail|phone|tags|icon|color|colour|image|avatar|format|sender|recipient|query"
    r"|expression|path|file|filename|address|serial|number|nr|action|event|result|outcome|duration|value|threshold"
    r"|einheit|schema|signature|description|details?|notes?|content|summary|namespace)"
    r"|(src|dst|source|dest|remote|local)?ip|\w*mac|(cli|client|host|guest|device|server)?os|tz|to|from|by|at|no"
    r"|\w*(user|owner|author|actor|assignee|creator|sender|company|customer|client|account|org|organi[sz]ation"
    r"|institution|team|tenant|product|vendor|provider|first|last|nick|reporter|requester|caller|contact|kontakt|person"
    r"|driver|fahrer|technician|techniker|engineer|manager|kunde|mandant|bearbeiter)s?(name|display|displayname)?"
)
#: Ids of what is run again and again.
RUN_OF_ID: Final = NamePattern(r"(dag|(actor)?task|workflow|pipeline|flow|project|schedule|suite|test)(id|key|slug)")
#: What a run is a run of, beside its own name.
RUN_OF: Final = NamePattern(
    r"definition|pipeline|project|repo|repository|stack|job|workflow|flow|sync|connection|connector|app|application"
    r"|(?!\w*(run|state|status))\w*(job|workflow|pipeline|flow|builder|connector|deployment|project|repository)name"
)
RUN_IN: Final = NamePattern(r"branch|headbranch|ref|(environment|env)(name)?")

#: The names of an outcome, which may say of a completed run that it failed.
_OUTCOMES: Final = (*_STATUSES, "result", "outcome", "conclusion", "health")

#: What a program returns: 0 for success.
EXIT_CODES: Final = in_order(
    ("exitcode", "exitstatus", "returncode", "rc", "retcode", "exit", "errorlevel", "errorcode", "faultcode")
)
#: A time of these means that it is over; null, that it is not.
OVER_TIME: Final = NamePattern(r"\w*(resolved?|recover(y|ed)?|cleared?|closed|fixed|dismissed)(at|time|ts|date|on)")
#: The same of what has a beginning, unless it is a run.
END_TIME: Final = NamePattern(r"\w*ended(at|time|ts|date|on)|endsat")
#: A number of these may be how many there are.
COUNTED: Final = frozenset({
    "alert", "anomaly", "error", "failed", "failure", "fault", "fehler", "incident", "outage", "passed", "problem",
    "succeeded",
})  # fmt: skip
#: What a flag is in another type than true and false.
TRUTHS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("1", "true", "yes", "y", "on", "ein", "ja", "oui", "sí", "si"), True),
    **dict.fromkeys(("0", "false", "no", "n", "off", "aus", "none", "null", "nein", "non"), False),
}

#: A text of these means that it is over.
OVER_TEXTS: Final = frozenset({"clear", "cleared", "resolved", "recovered"})

#: A template's placeholder that the sender did not fill in.
_PLACEHOLDER: Final = re.compile(r"\s*(\{+\s*[\w.:$#]+\s*\}+|\$\{?[\w.:]+\}?\$?|%[\w.]+%|<%.*%>|##\w+##)\s*$")


_OF_DELIVERY: Final = re.compile(
    r"(?i)(?:(?:evt|events?|msg|message|dlv|delivery|whk|webhook|notif\w*|req)[-_:]\w|\S+\W1\d{9}(?:\d{3})?\W([a-z]+)$)"
)


_FOLDED: Final = {field: tuple(dict.fromkeys(map(fold, names))) for field, names in ALIASES.items()}
FOLDED: Final = {field: in_order(names) for field, names in _FOLDED.items()}
#: Ids that name one delivery where an inner object has an id too.
INNERMOST_FIRST: Final = frozenset({"id", "key", "uuid", "guid", "token", "identifier"})
DELIVERY_IDS: Final = in_order((*sorted(INNERMOST_FIRST), "eventid", "runid", "buildid", "number"))
_FIRST_BARE: Final = min(FOLDED["source_id"][name] for name in INNERMOST_FIRST)
PROPER_IDS: Final = in_order(_FOLDED["source_id"][:_FIRST_BARE])
BARE_IDS: Final = in_order(_FOLDED["source_id"][_FIRST_BARE:])
#: The names of a title, and those of a sentence that is one where nothing else is.
_FIRST_NAME: Final = FOLDED["subject"]["alertname"]
_FIRST_SENTENCE: Final = FOLDED["subject"]["alertmessage"]
TITLES: Final = in_order(_FOLDED["subject"][:_FIRST_SENTENCE])
SENTENCES: Final = in_order(_FOLDED["subject"][_FIRST_SENTENCE:])
PROPER_TITLES: Final = in_order(_FOLDED["subject"][:_FIRST_NAME])
NAMES: Final = in_order(_FOLDED["subject"][_FIRST_NAME:_FIRST_SENTENCE])
FOLDED_STATUSES: Final = in_order(map(fold, _STATUSES))
FOLDED_OUTCOMES: Final = in_order(map(fold, _OUTCOMES))
#: Of a ticket, a bare id may be that of the delivery, the agent or the note, and an event is no status.
OF_TICKETS: Final[Mapping[str, Names]] = {
    "source_id": in_order(
        (
            *(name for name in FOLDED["source_id"] if name not in INNERMOST_FIRST | {"eventid", "alias"}),
            *("ticketnumber", "ticketno", "ticketref", "ticketreference", "ticketkey", "requestid", "requestnumber"),
            *("casenumber", "incidentnumber", "faultid", "ticketnummer", "ticketnr", "numeroticket", "numerodeticket"),
            *("number", "reference", "ref", "nummer", "numero", "numéro"),
        )
    ),
    "source_status": FOLDED_STATUSES,
}


def is_of_delivery(value: object) -> bool:
    """Returns whether an id says that it is one of an event or a message: "evt_1f", or ends with a time and a status,
    such as "check-7:1326910500:OK"."""
    found = _OF_DELIVERY.match(value) if isinstance(value, str) else None
    return found is not None and (found[1] is None or found[1].casefold() in MEANINGS)


def fill(values: dict[str, Value], name: str, candidates: Iterator[object]) -> None:
    """Fills a field with the first candidate that has a value when cleaned: no placeholder, and no id of a delivery."""
    field, delivery_id = FIELDS[name], values.get("delivery_id")
    for candidate in candidates:
        if isinstance(candidate, str) and _PLACEHOLDER.match(candidate):
            continue
        if name == "source_id" and (is_of_delivery(candidate) or text_of(candidate) in (delivery_id, "0")):
            continue
        if (value := CLEANERS[field.kind](candidate, field.length)) is not None:
            values[name] = value
            return


def find_any(levels: list[dict[str, object]], names: Names) -> Iterator[object]:
    """Yields the values that have one of the names, the likeliest first, except true and false."""
    found: list[tuple[int, int, object]] = []
    for depth, level in enumerate(levels):
        for name in names.keys() & level.keys():
            if type(value := level[name]) is not bool:
                found.append((names[name], -depth if name in INNERMOST_FIRST else depth, value))  # noqa: PERF401
    if len(found) > 1:
        found.sort(key=_PLACE)
    for _, _, value in found:
        yield value


_PLACE: Final = itemgetter(0, 1)


def matching(levels: list[dict[str, object]], matches: NamePattern) -> Iterator[object]:
    """Yields the values whose names match, except those of how it was."""
    for level in levels:
        for name, value in level.items():
            if matches[name] and type(value) is not bool:
                yield value


def texts_of(levels: list[dict[str, object]], names: Names) -> Iterator[str]:
    return (value for value in find_any(levels, names) if isinstance(value, str))


def matching_sorted(levels: list[dict[str, object]], matches: NamePattern) -> Iterator[object]:
    """Yields the values whose names match, by name, so that another order of a message's fields makes no difference."""
    for level in levels:
        yield from (level[name] for name in sorted(level) if matches[name])


def first_line(value: object) -> object:
    """Returns the first line of a text that has several, without the marks of a heading."""
    if not isinstance(value, str) or "\n" not in value:
        return value.lstrip("# ") if isinstance(value, str) else value
    return next((line for line in value.splitlines() if any(map(str.isalnum, line))), value).strip("# \r")
