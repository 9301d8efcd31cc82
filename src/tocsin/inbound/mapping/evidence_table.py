"""What words, names and phrases say of a problem: the one table of evidence, in all languages, with its weights.

Words are in lower case; those of a phrase are joined by underscores. Names of fields have neither case nor marks.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Final


class StatusMeaning(StrEnum):
    OPEN = "open"
    CLOSE = "close"
    UPDATE = "update"


_OPEN, _CLOSE, _UPDATE = StatusMeaning

# ---------- weights

#: What was done with a known alert outweighs the state beside it, which is that of the thing.
NOTICE: Final = 500.0
#: The weight of a clear word by its place. A status, a result or a time of an end says it most directly.
STATUS: Final = 100.0
#: A tag is written to be read first: it outweighs an event, which may name the problem of both messages.
TAG: Final = 80.0
#: A flag says one thing of the message; a status beside it, what it is about.
FLAG: Final = 70.0
#: Events, and names like that of a status: with a flag or a tag they outweigh a status, alone they do not.
EVENT: Final = 65.0
#: A sentence may tell of something else; a failure in one still outweighs a status that only says that something ended.
SENTENCE: Final = 40.0
#: A kind of message, such as `type`: half a sentence, as it names problems more often than it says what became of them.
HAPPENING: Final = 20.0
#: How many failed: just enough to close what has a title.
COUNT: Final = 11.0
#: A bare word of any name: not enough for that.
OTHER: Final = 9.0
#: How bad it is, which a recovery may repeat: decides only where nothing else says anything.
SEVERITY: Final = 5.0
#: What remains of the weight of a word that may say something else too, such as "active", that may name a problem in a
#: title, or is about an object beside the message: a status with it is less than a sentence that says the opposite.
UNCLEAR: Final = 0.35
#: And of one that says that something ended or goes on, and not how: a status with it is still enough to close.
HOW_IS_UNSAID: Final = 0.12
#: Less than this does not close a message with a title, or without one.
MIN_CLOSING_TITLED: Final = 10.0
MIN_CLOSING: Final = 5.0

# ---------- words of a status


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: What a status means by its last words, and what else a word is:
#: - failure: it says of anything that it failed; others may say that somebody is active, or a page new.
#: - end: it ends a title, such as "Disk of db1 is OK"; a port that is "closed" may be the problem.
#: - bare: it says so alone, in any field; as a failure and an end do.
#: - noun: a failure that may be named without one: "error rate".
#: - kind: an alert may be called so, whatever its status.
#: - weak: it says nothing beside another: "recovery detected".
#: - done, ongoing: it says that something ended or goes on, and not how.
#: - unclear: of some things it says that all is well, or that something is wrong, and of others nothing.
#: - ambiguous: a kind may use it for what is no problem, such as a comment that was created.
#: - noflag: true and false say nothing of it; flag, well: what is wrong, or well, if it is there.
#: - setting: a flag of what the sender shall do, or can do.
#: - degree: how much it is, which a recovery does not say: "temperature too high" and "temperature normal".
#: - negation: the words beside it mean the opposite, or nothing.
_TABLE: Final[tuple[tuple[StatusMeaning | None, str, str], ...]] = (
    (
        _OPEN,
        "",
        """
        alarming anomaly breach breaching crash danger disaster disconnect disconnected escalated expired expires
        expiring expiry fault fired hard_down inaccessible investigating late missed missing nodata no_data overdue
        panic partial_outage major_outage raise red reintroduced renotify reopen reopened soft_down stale trigger
        trouble unresolved unresponsive unstable violated violation yellow in_alarm unacknowledged abnormal abend absent
        breakdown compromised corrupt corrupted damaged exceeded exceeds failure_detected faulty flatline high_alarm
        infected interrupted malfunction malicious mayday not_ok onbattery on_battery overheated overload overloaded
        tripped unsuccessfully suspicious worsened outofsync out_of_sync ko nok onbatt lowbatt wet commbad nocomm
        replbatt unprotected incomplete low_battery power_failure went_down exhausted past_due unpaid disconnection
        noncompliant not_compliant depleted evicted halted hung inoperable jammed out_of_service above_normal
        below_normal
        overcurrent overvoltage undervoltage overpressure overspeed killed oomkilled rogue stalled stuck
        aktiv alarmiert ausgelöst defekt fehlerhaft gekommen kommend
        kommt kritisch nicht_erreichbar offen störung stoerung überschritten unterbrochen unterschritten warnung alerte
        avertissement critique déclenché déclenchée défaut echec échouée erreur hors_ligne hors_service ouvert ouverte
        panne abierta abierto advertencia alarma alerta caída caida caido crítica crítico critico critica fallida fallo
        falla aberto aberta erro falha fora_do_ar verbroken onbereikbaar hors_tension injoignable abgelaufen awaria
        allarme aperto errore guasto parada parado fout kritiek storing waarschuwing abgebrochen interrotto interrotta
        interrompu irraggiungibile degradato unregistered en_panne backing_up
        building_up filling_up heating_up piling_up apparition apparu apparue undicht blockiert bloqué bloquée bloqueado
        bloqueada bloccato bloccata geblokkeerd überhitzt verklemmt getrennt déconnecté desconectado disconnesso
        disparado
        disparada scattato scattata geactiveerd vastgelopen déborde dépassé dépassée excedido superato overschreden
        averiado
        averiada perdu perdida perso verloren überfällig
    """,
    ),
    (_OPEN, "ambiguous", "creating testing"),
    (_OPEN, "bare", "open opened triggered"),
    (
        _OPEN,
        "failure",
        """
        alerting breached broken crashed dead degraded down errored fail failed failing firing offline timed_out
        unavailable unhealthy unreachable abended faulted lost unsuccessful ausfall ausgefallen fehlgeschlagen gestört
        échec échoué indisponible caído fallido falhou fallito indisponível mislukt
    """,
    ),
    (_OPEN, "failure noun", "err failure timeout fehler"),
    (_OPEN, "failure noun kind", "alarm error outage"),
    (_OPEN, "failure noun noflag", "crit critical fatal"),
    (_OPEN, "flag", "fire"),
    (_OPEN, "kind", "problem"),
    (_OPEN, "kind unclear", "alert exception"),
    (_OPEN, "kind weak ambiguous", "test"),
    (_OPEN, "noflag", "emergency regression warn warning severe urgent"),
    (_OPEN, "ongoing", "ongoing"),
    (_OPEN, "setting", "banned ban blocked"),
    (_OPEN, "unclear", "identified attivo attiva activo activa actif"),
    (_OPEN, "unclear ambiguous", "starting unknown"),
    (_OPEN, "unclear bare", "active"),
    (_OPEN, "unclear noflag", "bad major minor on"),
    (_OPEN, "weak", "detected"),
    (_OPEN, "weak ambiguous", "create created new set start started"),
    (_OPEN, "weak bare", "raised"),
    (
        _CLOSE,
        "",
        """
        close not_triggered not_firing not_alerting not_failing not_active clear green healed mitigated pass passing
        recover recovery reset resolve resolving returned succeed undegraded all_clear auto_resolved
        autoresolved within_limits within_threshold in_range within_range closed_auto back_online answering cease ceased
        completes dismissed online_again rectified offbattery commok unban unbanned stabilized synced
        in_sync online_utility onmains on_mains back_up no_problem no_longer_active rearmed cleaned paid
        reconnection compliant patched established in_service alarm_release alarm_released alarm_off mainsback
        mains_back power_back cooled_down disparu disparue à_jour al_día
        op_tijd
        sous_tension con_conexión en_marche en_marcha in_funzione in_bedrijf in_dienst wieder_da
    """,
    ),
    (_CLOSE, "bare", "closed"),
    (_CLOSE, "done", "complete completed done end finished stopped received"),
    (
        _CLOSE,
        "end",
        """
        cleared recovered resolved abgeschlossen beendet behoben entwarnung erfolgreich erledigt erreichbar gegangen
        gehend geht gelöst in_betrieb in_ordnung en_service en_servicio dry trocken geschlossen verfügbar
        wiederhergestellt clos clôturé clôturée disponible en_ligne fermé fermée rétabli rétablie résolu résolue resolu
        réussi réussie succès succes terminé terminée cerrada cerrado completado éxito exitoso normalizado recuperada
        recuperado restablecido restaurado resuelta resuelto solucionado fechado resolvida resolvido sucesso chiuso
        risolto ripristinato riuscito successo gelukt geslaagd gesloten hersteld opgelost disponível goed bereikbaar
        beschikbaar operativo operativa operacional opérationnel rientrato rientro correcto normalisiert gültig
        zurückgesetzt działa no_ar en_línea joignable entstört entstörung wiederherstellung rétablissement
        retablissement retabli raggiungibile fixed healthy normal ok okay online operational passed reachable renewed
        secured refilled refuelled drained thawed fehlerfrei abgekühlt aufgefüllt wiedergefunden
        erneuert wiederverbunden réarmé réarmée rearmado rearmada
        riarmato
        riarmata retrouvé refroidi rempli renouvelé renouvelée réparé réparée redémarré redémarrée enfriado rellenado
        renovado
        renovada reparado reparada reanudado raffreddato riempito riparato riparata rinnovato rinnovata ritrovato
        ripartito ripartita asciutto sbloccato sbloccata seco droog normaal normale afgekoeld bijgevuld verlengd
        gerepareerd gereset accesible
        restored solved succeeded success successful up back_to_normal alive nominal optimal reconnected remediated
        repaired responding resumed successfully
    """,
    ),
    (_CLOSE, "end done", "ended"),
    (
        _CLOSE,
        "end unclear",
        "connected stable dicht verbunden connecté conectado connesso verbonden sec",
    ),
    (_CLOSE, "noflag", "closing"),
    (_CLOSE, "noflag bare", "inactive inaktiv inactif inactivo inattivo inactief"),
    (_CLOSE, "unclear", "ready valid working safe gone moving läuft verlängert"),
    (_CLOSE, "unclear noflag", "available good clean live"),
    (
        _UPDATE,
        "",
        """
        ack acked acknowledge acknowledged acknowledgement annotate annotated assign assigned cancel canceled cancelled
        comment commented delegated deescalated downtime edited flapping maintenance merged note paused postmortem
        reassigned silenced snoozed suppressed unassigned under_maintenance verifying bestätigt quittiert acquitté
        reconocido
        wartung wartungsmodus mantenimiento manutenzione onderhoud entretien flapping_start flapping_stop flapping_end
        flapping_disabled downtime_start downtime_end
        downtime_cancelled downtime_removed flappingstart flappingstop flappingend flappingdisabled downtimestart
        downtimeend downtimecancelled downtimeremoved scaled_up scaled_down scale_up scale_down in_bearbeitung
        in_behandeling
    """,
    ),
    (_UPDATE, "ongoing", "en_cours en_curso in_corso update in_progress monitoring pending queued scheduled updated"),
    (_UPDATE, "ongoing unclear well", "running"),
    (_UPDATE, "setting", "muted"),
    (
        None,
        "degree",
        """
        too high low above below over under hoch niedrig ordnung wieder zu full voll slow alta alto baja bajo bas basse
        haut haute trop
    """,
    ),
    (None, "degree negation", "not nicht"),
    (
        None,
        "flag",
        """
        activated defaut errors failures flood gestoert intrusion leak leakage overheating smoke tamper water waterleak
        alarm_status alarm_state alert_status alert_state listed blocklisted anstehend over_limit over_threshold
        over_quota over_budget above_limit
        above_threshold out_of_range
    """,
    ),
    (None, "kind flag", "incident"),
    (None, "negation", "no non isn't never without than only kein keine pas aucun niet geen"),
    (
        None,
        "setting",
        """
        config email allow allowed auto can disable disabled enable enabled expect expected ignore ignored include
        notify notified require required send sent should show skip support supports use when will count blacklisted
        schema number times total
    """,
    ),
    (None, "well", "registered operation allclear backonline backtonormal"),
)
MEANINGS: Final = {word: meaning for meaning, _, words in _TABLE for word in words.split() if meaning is not None}


def _plain_spellings(word: str) -> tuple[str, str]:
    """Returns a word as people write it without its accents and umlauts: "geloest", "critico"."""
    umlauts = word.translate({228: "ae", 246: "oe", 252: "ue", 223: "ss"})
    return umlauts, "".join(char for char in unicodedata.normalize("NFD", word) if not unicodedata.combining(char))


for _word, _meaning in [*MEANINGS.items()]:
    for _spelling in _plain_spellings(_word):
        MEANINGS.setdefault(_spelling, _meaning)


def _having(trait: str) -> frozenset[str]:
    return frozenset(word for _, traits, words in _TABLE if trait in traits.split() for word in words.split())


FAILURES, TITLE_ENDS, NOUNS, KINDS, WEAK = map(_having, ("failure", "end", "noun", "kind", "weak"))
COMPLETIONS, ONGOING, DEGREES, NEGATIONS = map(_having, ("done", "ongoing", "degree", "negation"))
AMBIGUOUS, SETTINGS, FLAG_NOUNS, WELL_NOUNS = map(_having, ("ambiguous", "setting", "flag", "well"))
BARE: Final = FAILURES | TITLE_ENDS | _having("bare")
#: Words that say of some things that all is well, or that something is wrong, and of others nothing.
UNCLEAR_WORDS: Final = COMPLETIONS | WEAK | _having("unclear")
NO_FLAGS: Final = COMPLETIONS | AMBIGUOUS | _having("noflag")
PROBLEMS: Final = (
    {word for word, meaning in MEANINGS.items() if meaning is _OPEN}
    | FLAG_NOUNS
    | {"high", "low", "full", "slow", "lag", "hoch", "niedrig"}
) - UNCLEAR_WORDS
#: Those that are in no name of a healthy thing: "Smoke detector", "Alarm panel".
FAULTS: Final = PROBLEMS - FLAG_NOUNS - {"alarm", "fire"}
#: Words that say nothing inside of a status: "Long-running query", "stopped_reporting" and "reset-both".
NOT_TELLING: Final = COMPLETIONS | WEAK | ONGOING | {"reset"}
#: The opposite of a status that opens, and words in front of how bad it was.
NO_PROBLEM: Final = _words("not_triggered not_firing not_alerting not_failing not_active")
OVER_AGAIN: Final = _words("cleared recovered resolved")
#: What is up as long as it runs; a run that is "stopped" is over, and one that is "running" is not.
RUNNING_THINGS: Final = _words("""
    service servicename process processname container containername vm vmname daemon unit trunk trunkname peer extension
    dienst prozess datenbank database
""")
STATES_OF_SERVICES: Final = {
    "running": _CLOSE, "registered": _CLOSE, "stopped": _OPEN, "exited": _OPEN, "unregistered": _OPEN,
}  # fmt: skip
EVENTS_OF_SERVICES: Final = {
    **STATES_OF_SERVICES, "started": _CLOSE, "terminated": _OPEN, "gestartet": _CLOSE, "gestoppt": _OPEN,
}  # fmt: skip
#: "off" is the end of what a sensor or a rule reports; any other thing that is "off" may be dead.
SWITCHED: Final = {"on": _OPEN, "off": _CLOSE}
#: The edges of what happened, where it is a problem: "Video loss" that starts or stops.
EDGES_OF_EVENTS: Final = {"start": _OPEN, "begin": _OPEN, "stop": _CLOSE, "end": _CLOSE}
#: What a flag is in another type than true and false.
TRUTHS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(_words("1 true yes y on ein ja oui sí si"), True),
    **dict.fromkeys(_words("0 false no n off aus none null nein non"), False),
}
#: Signs that people read before the words.
SIGNS: Final[Mapping[str, str]] = {
    **dict.fromkeys("✅✔☑🟢💚👍", "ok"),
    **dict.fromkeys("❌🔴🚨🔥🛑⛔❗‼💥🆘⚠🟠🟡💀✖", "problem"),
}
#: Endings of plurals, genders and participles, and those of the form in the table.
FORMS: Final = (
    ("ing", ("", "e", "ed")), ("es", ("", "e")), ("as", ("o", "a")), ("os", ("o",)), ("s", ("", "ed")), ("a", ("o",)),
    ("i", ("o",)), ("en", ("",)), ("e", ("", "o", "ed")), ("", ("ed", "d")),
)  # fmt: skip
#: What turns a word around: "unblocked", "débloqué", "desbloqueado".
OPPOSITES: Final = ("un", "dé", "des", "ent", "ont")
#: The end of what is named beside it: "alarma_fin", "end of alarm", "fault.gone".
ENDS: Final = _words("end ended ende fin fine einde over gone")
#: How German names of problems end: "Netzausfall".
COMPOUND_ENDS: Final = ("ausfall", "fehler", "störung", "alarm")
#: What says of a host that it can be reached again, and that it could not.
REACHED: Final = _words("up online reachable connected available erreichbar joignable")
NOT_REACHED: Final = _words("""
    down erreichbar offline unreachable disconnected lost timeout unavailable unresponsive ping icmp respond responding
    injoignable
""")
#: What is over once it is cleared, and a status that may be what happened: "Failed logons followed by success".
TROUBLES: Final = _words("alert alarm condition fault incident issue problem")
SUCCESSES: Final = _words("succeeded success successful successfully")
CLEARED_SEVERITIES: Final = _words("clear cleared ok resolved recovered recovery")

# ---------- words of everyday events

#: What happens every day to things that no alert is about, such as "order.created" and "Konfiguration geändert".
DAILY: Final = _words("""
    live ausgerollt publicó rolled_out saved update create created edited merged updated add added approved booked
    granted change changed delivered deployed
    exported import imported installed issued launch launched modified placed provisioned publish published push pushed
    put register registered renamed rotated saved scaled shipped submitted tagged upload uploaded upgraded archived
    attached charged collected confirmed copied counted dispatched enrolled filed generated invited joined listed mailed
    moved ordered picked posted printed processed purchased read recorded refreshed reported requested reserved reviewed
    scanned sent shared signed sold stored subscribed transferred translated unsubscribed verified viewed visited voted

    aktualisiert angelegt erstellt geändert hinzugefügt hochgeladen installiert veröffentlicht abgeholt abgelegt
    abgeschickt angefordert angenommen archiviert aufgegeben ausgeführt ausgeliefert ausgestellt bearbeitet beantragt
    beantwortet bestellt bewertet bezahlt durchgeführt eingecheckt eingereicht erfasst exportiert freigegeben gebucht
    gedruckt genehmigt gesendet gespeichert importiert registriert reserviert unterschrieben unterzeichnet übermittelt
    übertragen verarbeitet verbucht verkauft verschickt versandt versendet zugestellt

    ajouté ajoutée créé créée modifié modifiée publié publiée approuvé approuvée archivé archivée commandé confirmé
    confirmée déposé déposée enregistré enregistrée envoyé envoyée expédié expédiée exporté exportée généré générée
    imprimé importé importée inscrit inscrite livré livrée payé payée planifié planifiée reçu reçue réservé réservée
    signé signée soumis soumise transmis transmise validé validée vendu vendue

    creado creada modificado modificada actualizado actualizada añadido añadida aprobado aprobada archivado comprado
    confirmado confirmada enviado enviada entregado entregada exportado firmado firmada generado generada guardado
    importado impreso pagado pagada programado programada publicado publicada realizado realizada recibido recibida
    registrado registrada reservado reservada subido vendido vendida

    creato creata modificato modificata aggiornato aggiornata aggiunto aggiunta approvato approvata archiviato caricato
    caricata confermato confermata consegnato consegnata emesso emessa esportato firmato firmata generato generata
    importato inserito inserita inviato inviata pagato pagata prenotato prenotata pubblicato pubblicata registrato
    registrata ricevuto ricevuta spedito spedita stampato venduto venduta

    aangemaakt gewijzigd bijgewerkt toegevoegd geplaatst gepubliceerd geregistreerd geboekt geleverd betaald ontvangen
    opgeslagen verzonden
""")
DAILY_THINGS: Final = _words("""
    version rota roster dienstplan planning config update comment access paket patch updates account address
    appointment artifact asg autoscaling booking branch build
    cart commit config configuration contact contract customer deal deployment document email form image instance
    invoice item lead member object order package page password post preferences price product profile project
    pull_request quote release report repo repository request review settings shipment snapshot subscription tag
    template user agreement application article basket bill calendar campaign candidate card catalog checkout content
    conversation coupon course delivery discount donation draft employee enrollment entry estimate expense feedback file
    folder guest inquiry inspection inventory invitation label leave letter listing mail measurement meeting membership
    menu milestone newsletter offer opportunity parcel participant payment payout payroll payslip photo poll prospect
    purchase rating reading receipt record referral refund registration rental reply reservation response reward roster
    sale schedule shift signup statement stock story student subscriber survey telemetry timesheet trade transaction
    transfer translation trip video visit visitor voucher

    bestellung einstellung einstellungen konfiguration kunde passwort rechnung anfrage angebot anmeldung antrag artikel
    auftrag auszahlung beitrag beleg benutzer bericht bewerbung bewertung brief buchung datei datensatz dokument
    einladung eintrag foto gutschein kampagne kontakt kurs lieferschein lieferung mitarbeiter mitglied nachricht
    monatsabschluss produkt projekt protokoll reservierung retoure schicht seite sendung tagesabschluss termin umfrage
    urlaubsantrag verkauf vertrag vorlage wareneingang warenkorb zahlung zeiterfassung

    commande facture utilisateur abonnement article avis candidature client colis compte congé contrat courriel courrier
    demande devis dossier fichier formulaire inscription livraison paiement panier produit projet rapport réservation
    réunion vente visite

    configuración factura pedido usuario archivo artículo boletín campaña cita cliente compra contacto contrato correo
    cotización cuenta documento encuesta entrega envío fichero formulario informe inscripción mensaje nómina pago
    presupuesto producto proyecto reserva solicitud turno venta

    configurazione fattura ordine utente abbonamento appuntamento articolo bolla bonifico campagna consegna contatto
    contratto iscrizione messaggio modulo pagamento pagina pratica prenotazione preventivo prodotto progetto richiesta
    scontrino spedizione vendita visita

    bestelling configuratie factuur gebruiker afspraak bestand betaling klant levering offerte reservering verkoop
    zending
""")
#: What has changed is no thing but its state.
STATES: Final = _words("alarm alert problem incident state status health issue severity")
#: What is named beside an event that says only what was done: `{"action": "push", "repository": …}`.
DAILY_OBJECTS: Final = _words("""
    commit customer invoice order pullrequest repo repository job jobname task taskname pipeline workflow dag flow build
    deployment auftrag tâche tarea trabajo sauvegarde
""")
#: Names of what people filled in, and what only such a message has beside it.
FORMS_OF_PEOPLE: Final = _words("""
    form formname formid formtitle formular formulaire formulario modulo survey surveyname questionnaire umfrage
""")
ANSWERS: Final = _words("""
    answers responses values antworten réponses reponses respuestas risposte antwoorden message nachricht mensaje
    messaggio comment comments kommentar answers answer fields responses response email mail
    phone telefon name nom nombre nome
""")

# ---------- words of tickets

#: A ticket is new; first statuses, as service desks call them; last ones ("Resolved" is one only where rules say so).
NEW_WORDS: Final = _words("""
    open create created new opened raise raised add added submitted creation insert inserted log logged submit
""")
NEW_STATUSES: Final = _words("new neu nouveau nouvelle nuevo nueva nuovo novo nieuw")
OPEN_STATUSES: Final = NEW_STATUSES | _words("""
    open created opened reopened offen ouvert ouverte abierta abierto aberto aberta aperto received unassigned
    registered submitted logged triage untriaged erfasst eingegangen aperta
""")
CLOSED_STATUSES: Final = _words("""
    close abgeschlossen erledigt geschlossen clos clôturé clôturée fermé fermée terminé terminée cerrada cerrado
    completado fechado chiuso gesloten closed complete completed done finished canceled cancelled storniert cloturé
    annulé annulée chiusa completato completata annullato annullata completada cancelado cancelada anulado afgesloten
    afgerond geannuleerd fechada encerrado concluído concluido deleted gelöscht supprimé supprimée eliminado eliminada
    eliminato eliminata verwijderd delete removed entfernt beendet cancellato cancellata finalizado finalizada finalised
    finalized afgemeld
""")
#: What is new is something in a ticket, or something else that a service desk keeps, and not the ticket.
PARTS_OF_TICKET: Final = _words("""
    comment note contact customer email tag user log action approval article asset attachment entry feedback field
    followup link message part reply response survey task time worklog
""")
OTHER_RECORDS: Final = _words("""
    appointment contract invoice lead order product quote subscription agreement client company department device domain
    kb license organisation organization quotation site supplier vendor
""")
#: What an event or a status may call the ticket itself, and words that say nothing beside another.
TICKETS: Final = _words("alert problem incident change request issue ticket case call event")
AROUND: Final = _words("""
    set updated changed state status auto is has was been ist est as a all and automatically fully now the to auf stata
    stato und wurde été è automatisch automatiquement automaticamente automáticamente n nr nro nº
""")
#: What follows is who did it, or why.
DETAILS: Final = _words("in as because by due from through via als durch par da door por")
#: What a ticket waits for, so that it is not over, and not new: "Completed - awaiting sign-off"; who has seen it.
WAITING: Final = _words("pending awaiting hold wait waiting warten wartet attente attesa espera")
SEEN: Final = WAITING | _words("""
    escalated investigating testing resolved gelöst résolu risolto solved working assigned scheduled approved customer
    review user approval client supplier vendor accepted actioned deferred dispatched parked planned progress responded
    third with arbeit bearbeitung geplant rückfrage cours planifié corso curso behandeling
""")
#: Words of an event of a ticket that is not new.
LATER: Final = _words("""
    update breach breached escalated test warning acknowledge assign assigned edited merged reassigned unassigned
    updated change changed modified status reply accepted responded accept deadline found reconciliation reminder
    replied sla
""")

#: Statuses that say no more than that there is a problem.
OF_ALERTS: Final = _words("firing alerting alarm")
ONLY_A_PROBLEM: Final = (
    OF_ALERTS
    | NEW_STATUSES
    | _words("""
    active aktiv activo activa attivo attiva actif alert create created detected escalated fired late offen open opened
    problem raise raised regression reopened start started trigger triggered unresolved in_alarm kommend gekommen
    unknown unacknowledged on investigating
""")
)

# ---------- words of titles

#: Words that a title without its status lacks, and what it may call anything that it is about.
FILLERS: Final = _words("""
    begin end ende fin fine inicio inizio debut début einde on gone received no only incident is has have was been in
    ist hat est a and now the to und wurde by from with for it
    longer an back its of went notice again just still wird ha after at came come
""")
ANY_THING: Final = _words("""
    service instance device site check app application host job machine monitor node sensor server system website
""")
#: "Better clean that up."
VERBS_WITH_UP: Final = _words("""
    set clean catch check follow free give it keep look pick speed that them things this wake
""")
#: Words that say of no message what it is about.
GENERIC: Final = _words("""
    message alarm alert alerts event notification notify incident issue problem status state change changed webhook
    monitor monitoring check info information report object data type system service trigger this is from your you have
    the an threshold metric rule action log subscription payload generic custom default policy end was has been there
    health received occurred query matched
""")
#: What does its work: with "again" it is well.
WORKS: Final = _words("""
    send sends sending run has_run report reports reporting responds responding answers works working runs running
    has_run delivers
    registered available reachable clear dry free frei vrij libre libero sendet meldet liefert antwortet reagiert
    funktioniert läuft arbeitet
    angemeldet registriert trocken dicht répond fonctionne envoie envoi tourne marche transmet responde funciona envía
    enviar envia transmite risponde funziona invia trasmette werkt draait reageert stuurt verzendt
    service betrieb netz marche secteur servicio marcha red servizio funzione marcia rete dienst bedrijf lichtnet
""")
#: What else a recovery says, in the words around its status: "Pump 2 in marcia di nuovo", "Fan 3 return to normal".
BACK_AGAIN: Final = WORKS | _words("""
    a à di de en in i mit dem den der die das am im auf von zum zur unter über la le les un une sur du des el los con
    se il lo su al del
    remis remise revenu revenue again back end ende fin fine einde return returns returning resumes running normality
    wieder betrieb ordnung läuft
    normalbetrieb störung
    nouveau marche retour normale fonctionne nuevo nueva marcha funciona vuelve vuelto normalidad avería incidencia
    nuovo nuova marcia funziona tornato tornata ritorno ritornato normalità guasto weer terug werkt bedrijf por
""")
OF_ANYTHING: Final = _words("all betrieb everything message now operation value values")

# ---------- phrases

#: What was done with an alert that is known already: "ACKNOWLEDGEMENT", "DOWNTIMESTART", "alert_acknowledged". What a
#: tool calls a notification may say so in other words, too.
NOTICE_PHRASE: Final = re.compile(
    r"(?:alert|alarm|incident|problem|issue|case|host|service|check|monitor|trigger|notification)*"
    r"(?:(?P<acknowledged>acknowledge?(?:ment|d)|ack(?:ed)?|prise?en(?:compte|charge))|(?P<downtime>downtime(?:start|end|cancell?ed|removed))"
    r"|(?P<flapping>flapping(?:start|stop|end|disabled))|(?P<silenced>(?:silenced?|muted?|snoozed?)(?:created|added)?)"
    r"|(?P<commented>(?:comment|note|annotation)(?:added|created)))"
)
NOTICE_OF_NOTIFICATION: Final = re.compile(
    r"(?:custom)?(?:(?P<acknowledged>ack)|(?P<downtime>downtime|maintenance)|(?P<flapping>flapping)).*"
)
#: What no problem caused: a sign of life, a report of every week, a job that begins, work that was planned.
ROUTINE: Final = re.compile(
    r"(?:\w+ )?(?:heart ?beat|keep ?alive|telemetry|measurements?|readings?|uplink|lebenszeichen|status ?report"
    r"|newsletter|digest)(?: (?:sent|received|event|message|report|data|uplink))?"
    r"|(?=.*\b(?:hourly|nightly|daily|weekly|monthly|quarterly|yearly|annual|täglich\w*|wöchentlich\w*|monatlich\w*"
    r"|tages\w*|wochen\w*|monats\w*|quotidien\w*|hebdo\w*|mensuel\w*|diari[oa]|semanal|mensual|giornalier[oa]"
    r"|settimanal[ei]|mensil[ei]|dagelijks\w*|wekelijks\w*|maandelijks\w*)\b)"
    r".*(?:report|digest|summary|newsletter|statisti|stats|overview|bericht|übersicht|rapport|bilan|résumé|informe"
    r"|resumen|boletín|riepilogo|bollettino|overzicht).*"
    r"|(?:.* )?(?:release|version)(?: v?\d+)* (?:is |ist |est |wurde )?(?:now |jetzt )?"
    r"(?:live|available|out|released|deployed|verfügbar|ausgerollt|veröffentlicht|disponible|publiée?)(?: .*)?"
    r"|(?:.* )?(?:job|task|run|build|pipeline|workflow|deploy|deployment|release|backup|sync|scan|import|export"
    r"|migration|rollout|batch|dag|flow|playbook|auftrag|sicherung|lauf|sauvegarde|tâche|tarea|trabajo|copia|lavoro|attività|taak)"
    r"(?: .*)? (?:start|started|starting|starts|begun|begins|began|launched|initiated|gestartet|begonnen|startet"
    r"|démarrée?|lancée?|commencée?|iniciad[oa]|comenzad[oa]|avviat[oa]|iniziat[oa]|gestart)(?: .*)?"
    r"|(?:.* )?(?:maintenance (?:mode|window) (?:on|start\w*|enabled|begin\w*|scheduled|open\w*|announced|planned)"
    r"|maintenance (?:start\w*|begun|began|begins) (?:on|for|at|of)"
    r"|(?:planned|scheduled|upcoming|announced) (?:maintenance|work|outage|downtime)|geplante \w*(?:wartung|arbeiten)"
    r"|(?:wartung|wartungsfenster|wartungsmodus|revision) (?:geplant|angekündigt|geschaltet|begonnen|gestartet|aktiv)"
    r"|in (?:revision|wartung)(?: \w+)?"
    r"|(?:maintenance|travaux) (?:planifiée?s?|programmée?s?|prévue?s?)"
    r"|mantenimiento (?:programado|planificado|previsto)"
    r"|manutenzione (?:programmata|pianificata|prevista)|(?:gepland|aangekondigd) onderhoud)(?: .*)?"
)
#: Parts of words that name a problem, wherever they stand.
FAULT_PART: Final = re.compile(
    r"ausfall|ausgefallen|störung|stoerung|fehler|defekt|alarm|allarm|panne|défaut|échou|échec|échéc|avería|averia|guasto|fallo|falla"
    r"|fallid|fallit|erreur|error|errore|brand\b|feuer|rauch|leck|fuite|incend|fuga|perdita|einbruch|intrus|überhitz|überlast"
    r"|kritisch|critic|critiq|crític|verzöger|verspät|blockier|bloqu|blocc|überschr|dépass|exced|super[aó]|agotad|esaurit|épuisé"
    r"|\bloss\b|verlust|\bperte\b|pérdida|verlies"
    r"|coupure|corte|down\b|stuck|lost\b|leak|breach|attack|malware|virus|phish|ransom|unauthori[sz]ed|suspicious|verdächt"
)
DAILY_EVENT: Final = re.compile(
    r"(?:user|account|session)?(?:login|loggedin|logout|loggedout|signin|signedin|signup|signedup)"
    r"(?:succeeded|success)?"
)
#: "This is a test message", "Webhook test": a message that no problem caused.
TEST: Final = re.compile(
    r"(?i)\W*(?:(?:this )?is (?:just |only )?an? )?(?:sample|test|testing) (?:web ?hook |alert |event )?"
    r"(?:notification|message|web ?hook|alert|event|delivery|payload|incident)\b"
    r"|\W*\w+ test (?:notification|message|web ?hook|delivery|payload)\b"
    r"|\W*(?:\w+[ ._:-])?(?:web ?hook|notification|alert)[ ._:-](?:test(?:ing)?|verification)\b"
    r"|\W*(?:(?:dies|das) ist (?:nur )?eine? )?test(?:nachricht|meldung|alarm)\b"
    r"|\W*(?:ceci est )?(?:une? |un )?(?:message|notification|alerte|mensaje|messaggio) "
    r"(?:de test|de prueba|di prova)\b"
    r"|.*\b(?:please ignore|ignore this (?:message|alert)|only a test|nur ein test|bitte ignorieren|nicht beachten"
    r"|ignore[rz]? ce(?:tte)? (?:message|alerte)|merci d'ignorer|por favor,? ignor\w+|ignor[ae] este"
    r"|si prega di ignorare|ignora(?:re)? questo|graag negeren)\b"
    r"|\W*(?:test|probe|übungs?)-?alarm\w*\b"
)
TEST_EVENT: Final = re.compile(r"(?i)(?:.*[._:-])?(?:test|ping|handshake|verification)(?:[._-]event)?")
JOINED_FLAG: Final = re.compile(
    r"(?:is|are|has|have|had|was|in|on|alert|alarm|incident|problem|check|service|system|test|all)+"
)
WRONG: Final = re.compile(r" .*\b([45]\d\d|above|below|over|than|needed|refused|denied|rising|not found)\b|\d ?%")
#: "DB is back online", "The attack ended on web1", "no longer down": it is over, wherever a sentence says so.
OVER: Final = re.compile(
    r"\b(?:(recovered|resolved|restored|cleared|ended|rétablie?|behoben|wiederhergestellt|resuelt[oa]|reconnected)"
    r"|(?:back|returned) (?:to normal|online|up|in service|below|within)|no longer|nicht mehr"
    r"|^(?:end of|fin d(?:[eu] |')|fine (?:dell')?|einde |ende (?:der|des) )(?:l')?(?:the )?"
    r"(?:alarm\w*|allarme|alert\w*|incident\w*|outage|panne|défaut|fuite|störung|ausfall|storing|fallo|guasto)"
    r"|(?:retour|revenue?s?) à la normale|(?:volt[ao]|vuelve|vuelto) a la normalidad|(?:ritorn|torn)\w+ alla normalità"
    r"|^(?:closed|clear|normal)(?= (?:via|by|after|at|since|on|for)\b)"
    r"|(?:is|are|now|again|currently) (?:up|ok|online|normal|healthy|reachable|available|back|fine|ready"
    r"|running(?! out| low))"
    r"|(?:up|online|normal|registered) again"
    r"|wieder (?:da|normal|online|ok|unter|über|im|innerhalb|am)"
    r"|(?:rebuil\w+|resilver\w*|resync\w*|repair\w*) (?:is |has |was )?(?:complete[ds]?|done|finished)"
    r"|(?:has|is) returned(?= (?:on|to|at)\b|$)"
    r"|exit(?:ed)? (?:with )?(?:(?:status|code) )?0|on (?:line|mains|utility|ac) power"
    r"|(?:completed|finished|ended) (?:successfully|ok)|successfully (?:completed|finished|ended))\b"
)
#: "Sendet wieder Daten", "is free again": what is well, or does its work, again.
AGAIN: Final = re.compile(
    r"\b(?:again|once more|wieder|[àa] nouveau|de (?:nouveau|retour)|de nuevo|nuevamente|vuelve a|di nuovo|nuovamente"
    r"|weer|opnieuw)\b"
)
#: How something ends that should not.
UNEXPECTED: Final = (
    r"\b(?:unexpectedly|abnormally|prematurely|abruptly|unerwartet|unplanmäßig|inopinément|brutalement|inesperadamente"
    r"|inaspettatamente|improvvisamente|onverwachts?)\b"
)
NOT_WORKING: Final = re.compile(
    r"\b(?:not|n't|no longer|nicht|nicht mehr|pas|niet) (?:\w+ )?"
    r"(?:running|respond\w*|reachable|available|ok|up|online|healthy|connected|working|ready|erreichbar|verfügbar)\b"
    r"|\b(?:stopped|ceased) (?:work|respond|runn|report|send|answer)ing\b|\b(?:fail(?:ed|s|ing)|unable) to\b"
    r"|\bexit(?:ed)? (?:with )?(?:status|code) [1-9]|\b(?:could|can) ?not\b|\bne \w+ (?:plus|pas)\b"
    r"|\bn(?:o|on|ão) (?:responde|risponde|funciona|funziona)\b"
    r"|\b(?:antwortet|reagiert|funktioniert|läuft|startet|reageert|werkt) (?:nicht|niet)\b"
    rf"|{UNEXPECTED}"
    r"|\bwith (?:[1-9]\d* )?(?:error|warning|failure|problem|issue)s?\b"
)
#: "Finished without errors", "0 files failed": that all went well.
FLAWLESS: Final = re.compile(
    r"(?i)\b(?:without|with no|with 0|no|0|ohne|keine|sans|aucune?|sin|senza|nessun|zonder|geen)"
    r" (?:any |files? |jobs? |items? |objects? |tests? )?"
    r"(?:errors?|warnings?|failures?|failed|issues?|problems?|fehlern?|warnungen|probleme|erreurs?|errores|errori|fouten)\b"
)
#: A state in the middle of a sentence: "Link up on port 12", "Disk OK on db1".
STATE_PHRASE: Final = re.compile(
    r"\b(?:link|interface|port|tunnel|host|node|peer|neighbor) (up)\b|\b(?:check|test|probe) (passed)\b"
    r"|\b(?:incident|alert|alarm|problem|issue)(?: #?\w*\d+)? (closed)\b"
    r"|\b(?:(succeeded|renewed|healthy|ok|normal|online|reachable|fixed|passed))"
    r"(?= (?:on|for|in|at|after|since|from)\b| ?\()"
)
#: What a sentence is about, in front of its status.
ABOUT: Final = re.compile(
    r"(.*?\w.*?)\s(?:is|are|has|have|was|went|became|ist|wurde|est|está|è)\s"
    r"(?:(?:now|been|back|again|currently|no longer|not|wieder|to|in|into)\s)*(\w+)"
)
#: What a title is about, in front of its status: "gw backup: failed rc=255".
STATUS_PART: Final = re.compile(r"(.{3,}?)(?:: | - | – | \| )\W*(\w+)")
#: "[FIRING:1] CPU", "RECOVERY: Mail queue", "Resolved in 3m 2s: Load": a tag in front of a title.
TAG_PHRASE: Final = re.compile(
    r"\W*(?:\[\s*(\w[^\]]{1,60})\]|([A-Z][A-Z_ -]{1,30}):(?=\s)"
    r"|(\w{2,20})(?: (?:in|nach|en|après) \d[\d smhd]*)?(?: (?:-|–|\|) |: ))"
)
#: ":red_circle: VPN is down", a sign as chats write it.
SIGN_CODE: Final = re.compile(
    r"\W*:(?:(red_circle|large_red_square|x|fire|rotating_light|warning|no_entry\w*|skull|boom|bangbang|exclamation)"
    r"|(?:large_)?green_\w+|\w*check_mark|ok|thumbsup):"
)
#: "Was down for 14 min."
WAS_DOWN: Final = re.compile(r"(?i)(?:\w+ )?(?:was|were) (?:down|offline|unreachable|unavailable) for\b")
#: "Changed from OK to CRITICAL", "Up -> Down".
CHANGE: Final = re.compile(r"(\w+) ?(?: to | nach | zu | auf | vers | a |->|=>|→) ?(\w+)")
FROM_TO: Final = re.compile(r"(?i) (?:from|von|de|da) \w+ (?:to|nach|zu|auf|vers|a) (\w+)")
#: "(was down for 4m)", which is over.
ASIDE: Final = re.compile(r"(?i) ?\((?:was|were|after|war|nach|durée|duration)\b[^)]*\)")
#: A percentage, a time, or the number of a run: another one in the next message.
MEASURED: Final = re.compile(
    r"#\d+|v?\d+([.,]\d+){1,2}|\d+([.,]\d+)?(%|ms|s|m|min|h|d|[kmgt]i?b|°?[cf]|v|w|a)|\d+:\d+(:\d+)?|\d{4}-\d\d-\d\d.*"
)
QUANTITY: Final = re.compile(
    r"(?i)(?<![\w.-])[<>=]*\s?[-−]?\d+([.,]\d+)?\s?(%|ms|s|sec\w*|min\w*|hours?|days?|tage?n?|[kmgt]i?b|°?c|°f|volts?|w)(?![\w-])"
    r"|\b(?:is|now|at|bei|beträgt|est|à) \d+([.,]\d+)?(?![\w.-])"
    rf"|{UNEXPECTED}"
    r"|exit\w* (?:with )?(?:status |code )?\d+|\bon (?:line|mains|utility|ac) power\b|\bwith (?:errors|warnings)\b"
    r"|\b(?:current |last )?(?:value|wert|valor|valeur|waarde)\W*\d+([.,]\d+)?(?![\w-])"
)
#: "High CPU on web", "Disk full: db1".
OF_THING: Final = re.compile(r"\d|\w[.-]\w|: | (?:at|auf|bei|de|en|for|from|in|of|on|sur|to|von) ")

# ---------- names of fields

#: Folded names with their places in an order of likelihood.
type Names = Mapping[str, int]

_MAX_NAME_CHARS: Final = 60
#: How many names of senders' fields a pattern remembers.
_MAX_NAMES: Final = 2048
CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})")
#: Names of how it was.
FORMER: Final = re.compile(r"old|prev|last|before|from|former")


def words_of(text: str) -> list[str]:
    """Returns the words of a text or a name in lower case."""
    return [word for word in re.split(r"[^\w']+|_", CAMEL.sub(" ", text).casefold()) if word]


class FieldName(str):
    """A folded name, with the words of the name as it was spelled: "backtonormal" of "backToNormal"."""

    __slots__ = ("words",)

    words: tuple[str, ...]


def fold(name: str) -> FieldName:
    """Returns a name without case, underscores, hyphens and spaces, and without the `X-Vendor-` of a header."""
    return _fold(name) if len(name) <= _MAX_NAME_CHARS else _fold.__wrapped__(name)


@lru_cache(maxsize=4096)
def _fold(name: str) -> FieldName:
    name = re.sub(r"^[xX]-\w+-", "", name)
    folded = FieldName(re.sub(r"[\W_]+", "", name).casefold())
    folded.words = tuple(words_of(name))
    return folded


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


def _names(text: str) -> Names:
    return in_order(map(fold, text.split()))


HOST: Final = "component_name"
#: The names of a status itself; those of an event may mean the same in a message from a monitoring tool.
STATUSES: Final = _names("""
    status state alert_status alert_state incident_status incident_state event_status event_state current_status
    current_state new_status new_state check_status check_state monitor_status monitor_state trigger_status
    problem_status ticket_status build_status job_status run_status resolution_state monitor_condition check_state_name
    alert_type_friendly_name phase lifecycle zustand ergebnis etat état statut résultat resultat estado resultado stato
    esito toestand situacao situação situacion situación stan
    estado_actual etat_actuel stato_attuale betriebszustand
""")
#: The names of an outcome, which may say of a completed run that it failed.
OUTCOMES: Final = in_order((*STATUSES, "result", "outcome", "conclusion", "health"))
#: The names of an id: of a problem, and those that may be of one message.
PROPER_IDS: Final = _names("""
    dedup_key deduplication_key dedupe_key dedup idempotency_key unique_key message_key external_id incident_identifier
    incident_key alert_key problem_key event_key alert_id incident_id problem_id issue_id alarm_id case_id ticket_id
    event_object_id alert_cycle_key fingerprint alias group_key rule_id series_id series_uid monitor_id check_id
    sensor_id watch_id signal_id probe_id test_id episode_id condition_id trigger_id correlation_id entity_id
    entity_display_name
""")
BARE_IDS: Final = _names("uuid guid id uid event_id key token identifier")
#: The names of a title, of what an alert is called, and of a sentence that is one where nothing else is.
PROPER_TITLES: Final = _names("""
    subject title summary headline heading betreff titel titre sujet intitulé
    intitule objet título titulo asunto titolo oggetto onderwerp
    zusammenfassung kurzbeschreibung kurztext résumé resume resumen riassunto libellé libelle samenvatting
    descrizione_breve descripción_breve descripcion_breve descrição_breve brève_description korte_omschrijving
    alert_title event_title incident_title issue_title event_definition_title short_description
""")
NAMES: Final = _names("""
    alert_name alertname rule_name monitor_name check_name alarm_name incident_name problem_name policy_name
    condition_name trigger_name name nombre nome nom naam bezeichnung service_name job_name project_name display_name
    entity_display_name
""")
SENTENCES: Final = _names("""
    alert_message state_message service_output message msg activity_title text description reason body content
    human_readable output error error_message log fallback meldung nachricht meldungstext beschreibung fehler mensaje
    descripcion descripción messaggio descrizione mensagem bericht err aviso avviso
""")
TITLES: Final = in_order((*PROPER_TITLES, *NAMES))
#: By field, the names in order of likelihood.
ALIASES: Final[Mapping[str, Names]] = {
    "source_id": in_order((*PROPER_IDS, *BARE_IDS)),
    "source_status": in_order(
        (
            *STATUSES,
            *_names("""
    alert_transition transition event_action event_type message_type notification_type alert_type action result outcome
    conclusion health condition type event event_name reason
"""),
        )
    ),
    "subject": in_order((*TITLES, *SENTENCES)),
    "event": _names("""
    event event_type event_name triggered_event webhook_event event_action trigger action type
"""),
    "severity": _names("""
    severity priority alert_severity alert_priority event_severity severity_level urgency level alert_level impact
    criticality importance stufe schweregrad priorität prioritaet dringlichkeit gravité gravite priorité priorite
    gravedad severidad prioridad gravità ernst prioriteit niveau nivel livello
"""),
    "source_url": _names("""
    source_url html_url alert_url incident_url issue_url event_url monitor_url web_url dashboard_url permalink shortlink
    short_link link href url client_url details_url uri
"""),
    HOST: _names("""
    host hostname host_name node node_name server server_name instance device device_name machine hostname_and_port vm
    vm_name virtual_machine pod computer computer_name appliance gateway router switch printer controller rechner gerät
    geraet hôte hote serveur equipo dispositivo apparato appareil dispositif toestel servidor endpoint resource
    resource_name component entity source_host target
"""),
}
#: Ids that name one delivery where an inner object has an id too.
INNERMOST_FIRST: Final = _words("id key uuid guid token identifier")
DELIVERY_IDS: Final = in_order((*sorted(INNERMOST_FIRST), "eventid", "runid", "buildid", "number"))
#: Of a ticket, a bare id may be that of the delivery, the agent or the note, and an event is no status.
OF_TICKETS: Final[Mapping[str, Names]] = {
    "source_id": in_order((
        *(name for name in ALIASES["source_id"] if name not in INNERMOST_FIRST | {"eventid", "alias"}),
        *_names("ticketnumber ticketno ticketref requestid casenumber number reference ref nummer numero numéro"),
    )),
    "source_status": STATUSES,
}  # fmt: skip
#: What else a ticket's number is called: "Vorgangsnr", "numéro_demande", "id_caso" and "nr".
NUMBER_NAME: Final = NamePattern(
    r"(halo|helpdesk|servicedesk|itsm)?(id|uid|nr|no|num|nro|numer[oi]|numéro|number|nummer|ref|r[eé]f[eé]ren\w*|riferimento|key)"
    r"(de|du|di|del|della|des|van)?(ticket|case|incident\w*|incidencia|request|demande|richiesta|segnalazione|caso|solicitud)"
    r"|(halo|helpdesk|ticket|case|incident|fault|issue|call|servicerequest|request|sr|vorgangs?|fall|anfragen?|meldungs?|störungs?"
    r"|stoerungs?|vorfall|auftrags?|melding|meldings|zaak|dossier|incidencia|caso)"
    r"(id|nr|no|num|number|nummer|numero|ref|refer[ae]n\w*|referentie|key|code|kennung)"
    r"|nr|no|num|nro|folio|codice|referenz|référence|referencia|referentie|riferimento"
)
#: The names of a ticket's status, and none of something else of it, such as its SLA.
TICKET_STATUS_NAME: Final = NamePattern(
    r"(ticket|case|incident|request|bearbeitungs|vorgangs|current|new)?(status|state|stato|statut|etat|état|estado"
    r"|situaci[oó]n|zustand|toestand)(ticket|name|description|text|label|display|title|value)?"
)
#: The names of what is monitored: the same in a failure and its recovery.
MONITORED: Final = _names("""
    formname formtitle monitorname monitorlabel monitortitle checkname checklabel rulename policyname controlname
    alertname alarmname conditionname jobname job taskname servicename service svc servicedesc servicedescription sensor
    check monitor projectname project pipeline workflow buildtype involvedobject app application auftrag dienst aufgabe
    servizio servicio tâche tache tarea plan scenario task flow sync suite schedule playbook dag targetgroup heartbeat
    stack test cron cronjob crontab proceso processo prozess processus consumergroup
    controle contrôle prüfung pruefung sonde capteur melder messstelle fühler fuehler
""")
#: Names of what a run or a test is part of.
WHOLES: Final = _names("repository projectname project app application appname applicationname")
MONITORED_PARTS: Final = in_order(name for name in MONITORED if name not in WHOLES)
#: Names of one of several that have the same title.
NAMES_OF_ONE: Final = _names("name module")
#: What of a host it is about; so is a path, such as "/var" and "/dev/sda".
PARTS: Final = _names("mount mountpoint filesystem interface ifname drive volume disk")
#: Where one of several problems of the same name is.
SERVICES: Final = _names("service servicename svc namespace pod container database queue domain")
#: Names that say in a title what it is about; several problems may have one.
SUBJECTS: Final = in_order((*MONITORED_PARTS, *_names("""
    savedsearch rule exception context connection container database queue domain network metric metricname door zone
    room plant pool peer image package
""")))  # fmt: skip
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
    r"|printer|controller|station|thing|target|nas|storage|filer|broker|inverter|firewall|hypervisor|proxy|hub|modem|radio|plc"
    r"|robot|ups|pdu|panel|kiosk|terminal|sensor|gateway)(name|label|displayname|title|fqdn)|\w*failedhost"
)
#: What may fail that is no computer.
THING_NAME: Final = NamePattern(
    r"(machine|maschine|m[aá]quina|macchina|equipment|asset|anlage|unit|vehicle|fahrzeug|line|linie|leitung|room|raum"
    r"|pool|system|obj|object|objekt|aufzug|lift|elevator|ascenseur|ascensore?|tank|pump|building|workload|bezeichnung"
    r"|bereich|area|inverter|trunk|quelle|wechselrichter|onduleur|inversor|robot|roboter|broker|firewall|zona|zone"
    r"|puerta|porta|tür|porte|pumpe|pompe|bomba|pompa|motor|compressor|kompressor|generator|chiller|boiler|kessel|silo"
    r"|standort|ort|location|lieu|emplacement|ubicaci[oó]n|luogo|locatie|local|gebäude|gebaeude|halle|hall|floor|etage"
    r"|consumergroup|channelname|mailbox|postfach|terminal|gate|barrier|incubator|vessel|truck|lkw)(name|label)?"
)
HOST_ID: Final = NamePattern(
    r"\w*(host|device|node|server|machine|instance|station|charger|chargepoint|asset|computer|camera|endpoint|vm|gateway|thing|sensor)"
    r"(id|uid|uuid|serial|serialnumber|mac|ident|identifier)"
)
#: What is measured, as senders call its value, and names beside it of what makes one a problem.
MEASURED_NAME: Final = NamePattern(
    r"\w*(temp|temperatu\w*|humidity|feucht\w*|humid\w*|umidit\w*|co2|co2ppm|pressure|luftdruck|druck|pression|presi[oó]n|voltage|volt"
    r"|spannung|current|power|leistung|energy|verbrauch|battery|batteriestand|rssi|snr|uptime|wind\w*|rain\w*|lux|noise)"
    r"(c|f|pct|percent|value|wert|level|v|w|kwh)?"
)
LIMIT_NAME: Final = NamePattern(
    r"\w*(threshold|limit|max|maximum|min|minimum|setpoint|grenz\w*|schwell\w*|soll\w*|seuil\w*|soglia|umbral|l[ií]mite|drempel\w*|alarm\w*|alert\w*"
    r"|warn\w*|fault\w*|error\w*)"
)
#: Any other name of an id, a status, a severity, and a title.
ID_NAME: Final = NamePattern(
    r"(?!\w*(run|event|history|message|notification|policy|channel|category|type)(id|uid))"
    r"\w*(alert|alarm|incident|problem|issue|case|monitor|check|sensor|probe|rule|detection|finding|outage|fault|trigger"
    r"|threat|episode|anomaly|connector|watch|schedule|defect|dispute)"
    r"(id|uid|uuid|guid|identifier|key|ref|reference|number|no|arn|slug|hash)|eventarn|detectid"
)
STATUS_NAME: Final = NamePattern(
    r"\w*(status|state|condition|condizione|result|verdict|health|availability|zustand|[eé]tat|estado|stato|statut|situaci[oó]n"
    r"|toestand)(name|description|text|label|type|code|display|title|value|string|friendlyname|actuel|actual|attuale)?"
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
    r"(?!page|window|document|form|survey|sheet)\w*(title|subject|headline|heading|displayname|(issue|incident|alert|alarm|problem|event|threat|finding)(name|definition))"
)
SENTENCE_NAME: Final = NamePattern(
    r"\w*(reason|message|description|text|msg|note|comment|detail|details|info|explanation|error|cause|output|remark|exception"
    r"|meldung|nachricht|beschreibung|hinweis|melding|omschrijving|bericht|mensaje|descripci[oó]n|messaggio|descrizione"
    r"|mensagem|descri[cç][aã]o|texte|texto|testo|opis|avv?iso|libell[eé])((d[eu])?(alarm[aei]?|allarme|alert[ae]?|d[eé]faut|fault))?|err"
)
#: The kind of a problem, which is a title if it has several words.
TYPE_NAME: Final = NamePattern(
    r"\w*(alert|event|alarm|issue|problem|incident|anomaly|trigger|detection|notification|finding)"
    r"(type|typecode|typename|category|code|subtype|kind)|anomaly|cat|category|event|type|typ|ereignis|evenement"
    r"|événement|evento|evt"
)
#: A sentence, if it has several words.
HEADLINE: Final = _names("""
    alert alarm problem issue incident finding signature vulnerability error event threat alerte alarme alerta alarma
    allarme störung stoerung panne problema problème probleme probleem defaut défaut guasto fehler falla avería averia
    storing
""")
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
    r"|(src|dst|source|dest|remote|local)?ip|\w*mac|(cli|client|host|guest|device|server)?os|tz|to|from|\w*by|at|no"
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

#: What a program returns: 0 for success.
EXIT_CODES: Final = _names("exitcode exitstatus returncode rc retcode exit errorlevel errorcode faultcode")
#: A time of these means that it is over; null, that it is not.
OVER_TIME: Final = NamePattern(r"\w*(resolved?|recover(y|ed)?|cleared?|closed|fixed|dismissed)(at|time|ts|date|on)")
#: The same of what has a beginning, unless it is a run.
END_TIME: Final = NamePattern(r"\w*ended(at|time|ts|date|on)|endsat")
#: A number of these may be how many there are.
COUNTED: Final = _words("alert anomaly error failed failure fault fehler incident outage passed problem succeeded")
#: A text of these means that it is over.
OVER_TEXTS: Final = _words("clear cleared resolved recovered")
#: Why something happened, which a recovery does not say.
CAUSES: Final = _names("""
    reason cause error errormessage lasterror detail details output stderr stdout step ursache grund fehler erreur causa
    motivo
""")
#: Names of a sentence that says what happened, and of what is measured.
HAPPENINGS: Final = _names("alertmessage statemessage serviceoutput message reason msg errormessage error err text")
METRICS: Final = _names("metric metricname measurement indicator parameter counter")
ANY_TYPE: Final = NamePattern(r"\w+(type|typ)")
#: Names of a rule or a check, which an alert is called by.
RULES: Final = _names("alertname rulename monitorname checkname policyname conditionname alarmname")
EDGES: Final = _words("to tostate edge contact")
#: The names of a condition, and of the value of one: `{"tag": "MOTOR_FAULT", "value": 0}`.
CONDITIONS: Final = ("type", "condition", "tag", "tagname", "signal", "point", "datapoint")
VALUES: Final = _words("value val wert valeur valor")
#: The names of what happened, and of a test.
EVENTS: Final = ("event", "eventtype", "type", "activity", "alerttype")
TEST_FLAGS: Final = ("test", "istest", "testmode")
TEST_EVENTS: Final = ("event", "eventtype", "eventname", "hookevent", "action")
#: The names of a kind of message, such as "info".
MESSAGE_KINDS: Final = _names("kind type category art typ")
#: Objects whose id is that of the problem.
OBJECTS_OF_PROBLEMS: Final = _words("alert alarm incident issue problem event notification")
IDS_OF_ALERTS: Final = _words("alertid eventid")
#: Names of a status that are about the problem itself, and of a part of a thing otherwise: "battery_status".
OF_PROBLEM: Final = re.compile(r"al(ert|arm)|incident|problem|event|issue|trigger|check|service|newst|^(new|curr|to)")
#: A normal priority, and the type of another thing, are no end.
OF_OTHER: Final = re.compile(
    r"priority|^(?!.*(event|alert|alarm|incident|message|notif|hook|stat|trigger)).+(type|kind)$"
)
#: Names of how a thing is judged: "complete on exit code 0" is no end.
JUDGED: Final = re.compile(r"rule$|expect|criteri|assert")
OF_ALERT: Final = re.compile(r"(alert|alarm|incident|problem|event)(id|key|name|uid)")
#: Flags that something is well, maybe the delivery.
WELL: Final = re.compile(r"ok(ay)?|success(ful)?|succeeded|valid|healthy|running|alive|online|up|error")
#: What has several checks, and does not say which.
BROAD: Final = re.compile(
    r"(service|svc|dienst|servi[zc]io|stack|targetgroup|app|project|site|website|database|cluster|repo)"
)
