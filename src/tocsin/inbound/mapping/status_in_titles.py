"""What a title or a sentence says of a status, and what it is about without it: "[RESOLVED] CPU high on db1". Pure."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from tocsin.inbound.mapping.status_words import (
    ACTING,
    BARE,
    CODE,
    DEGREES,
    FAILURES,
    MAX_TITLE_CHARS,
    MEANINGS,
    NEGATIONS,
    NO_PROBLEM,
    NOUNS,
    OPENING_WORDS,
    SIGNS,
    TITLE_ENDS,
    UNCLEAR,
    StatusMeaning,
    meaning_of_word,
    names_failure,
    phrases_of,
    words_of,
)

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
    r"|\b(?:(succeeded|renewed|healthy|ok|normal|online|reachable))(?= (?:on|for|in|at|after|since|from)\b| ?\()"
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
        # "[FIRING:1]" and "[Recovered on db1]" begin with the status.
        for status in ("_".join(tag_words), *tag_words[:1]):
            if meaning_of_word(status) in ACTING:
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
    about = _ABOUT.match(title)
    if about is not None and MEANINGS.get(about[2].casefold()) in ACTING and "[" not in title[:2]:
        # "Monitor is DOWN: shop" is about the shop.
        title = about[1] + (title[about.end() :] if about[1].casefold() in _ANY_THING else "")
    part = _STATUS_PART.match(title)
    if part is not None and part[2].casefold() in FAILURES | TITLE_ENDS and MEANINGS.get(part[1].casefold()) is None:
        title = part[1]
    title = re.sub(r":[a-z]\w+:(?=\s)", " ", title)
    title = without_time(_QUANTITY.sub(" ", _COMPARED.sub(" ", _without_details(title))))
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


def _without_details(title: str) -> str:
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
