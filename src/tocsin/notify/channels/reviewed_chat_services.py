"""The apprise schemas that an address may use. A schema is added after a review of its plugin's source: every request
goes through `requests`, and neither the plugin nor a URL argument reads a file, runs a program or opens a socket. A
test repeats the mechanical part of that review for each version of apprise.

Excluded on purpose: fcm, vapid and deltachat (key files), nostr, irc, xmpp, mqtt, amqp, smpp, aprs, growl, rsyslog and
mailto (their own sockets), twitter (a library that is not installed), instagram (needs a file), msg91 (its template is
part of every address), and services of the machine itself, such as dbus, syslog, macosx and windows.
"""

from __future__ import annotations

SCHEMAS = frozenset(
    {
        "46elks", "acs", "apprise", "apprises", "atalk", "awswhatsapp", "azure", "bale", "bark", "barks", "betterstack",
        "bluesky", "brevo", "bsky", "bulksms", "bulkvs", "burstsms", "chanify", "clickatell", "clicksend", "cliq", "cm",
        "d7sms", "dapnet", "dingtalk", "discord", "dot", "eight00com", "elks", "emby", "embys", "enigma2", "enigma2s",
        "evolution", "evolutions", "exotel", "feishu", "firehydrant", "flock", "flowtriq", "flowtriqs", "fluxer",
        "fluxers", "form", "forms", "freemobile", "gchat", "github", "goalert", "goalerts", "gorush", "gorushs",
        "gotify", "gotifys", "groundmail", "groupme", "guilded", "gupshup", "hassio", "hassios", "httpsms", "humhub",
        "humhubs", "ifttt", "ilert", "incidentio", "infobip", "jellyfin", "jellyfins", "jira", "join", "json", "jsons",
        "kakao", "kakaotalk", "kaleyra", "kavenegar", "klr", "kodi", "kodis", "kook", "kudosity", "kumulos", "lametric",
        "lametrics", "lark", "lauther", "lfg", "line", "mailersend", "mailgun", "mastodon", "mastodons", "matrix",
        "matrixs", "misskey", "misskeys", "mmost", "mmosts", "mobilemessage", "mobilemsg", "msgbird", "ncloud",
        "nclouds", "nctalk", "nctalks", "nexmo", "notica", "noticas", "notifiarr", "notifico", "notificos", "notifyapp",
        "notifyre", "ntfy", "ntfys", "o365", "octopush", "onebot", "onebots", "onesignal", "opsgenie", "opsimate",
        "opsimates", "pagerduty", "pagertree", "parsep", "parseps", "pbul", "pinglet", "pinglets", "pingram", "pjet",
        "pjets", "plivo", "postmark", "pover", "prowl", "psafer", "psafers", "push", "pushdeer", "pushdeers", "pushed",
        "pushme", "pushplus", "pushward", "pushy", "qq", "reddit", "resend", "revolt", "ringc", "rocket", "rockets",
        "ryver", "schan", "sendgrid", "sendpulse", "serwersms", "ses", "session", "sessions", "seven", "sfr", "signal",
        "signalgrid", "signals", "signl4", "simplepush", "sinch", "slack", "smsc", "smseagle", "smseagles",
        "smsmanager", "smsmgr", "smstunnel", "smtp2go", "sns", "sogs", "sparkpost", "spike", "splunk", "spugpush",
        "spush", "squadcast", "stackfield", "strmlabs", "synology", "synologys", "telesign", "telnyx", "tgram",
        "threema", "toot", "toots", "trigv", "trigvs", "twilio", "twist", "viber", "victorops", "voipms", "vonage",
        "webex", "wechat", "wecom", "wecombot", "whapi", "whatsapp", "workflow", "workflows", "wpush", "wxpusher",
        "wxteams", "xbmc", "xbmcs", "xmatters", "xml", "xmls", "youlmk", "zalo", "zcliq", "zohocliq", "zoom", "zulip",
    }
)  # fmt: skip

#: Schemas whose "host" is an argument of the vendor's API, such as the domain that mail is sent from.
VENDOR_HOST = frozenset({"mailgun", "sendpulse", "smtp2go", "sparkpost", "wechat"})

#: Hosts, including their subdomains, that public services run.
PUBLIC_HOSTS = (
    "api.powerplatform.com",
    "betterstackdata.com",
    "communication.azure.com",
    "infobip.com",
    "logic.azure.com",
    "matrix.org",
    "ntfy.sh",
    "xmatters.com",
    "zulipchat.com",
)
