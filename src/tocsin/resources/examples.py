"""An example of each kind of object, for the documentation of the API."""

from __future__ import annotations

USER = {
    "username": "carol",
    "name": "Carol Clark",
    "email": "carol@example.org",
    "role": "responder",
    "time_zone": "Europe/Zurich",
    "contact_methods": [{"label": "Email-Official", "channel": "email", "address": "carol@example.org"}],
}

GROUP = {
    "name": "Night Desk",
    "time_zone": "Europe/Zurich",
    "members": [{"user": "alice", "roles": ["primary"]}],
}

SERVICE_ACCOUNT = {"name": "deploy-bot", "role": "manager", "groups": ["Night Desk"]}
IDENTITY_PROVIDER = {
    "name": "Keycloak",
    "preset": "keycloak",
    "issuer": "https://sso.example.org/realms/example",
    "client_id": "tocsin",
    "client_secret": "secret",  # nosec B105 # an example
    "sign_up": True,
    "allowed_domains": ["example.org"],
    "default_role": "observer",
    "roles": [
        {
            "claim": "Service Desk",
            "role": "responder",
            "groups": [{"group": "Service Desk", "on_call_roles": ["primary"]}],
        }
    ],
}

HOLIDAY_CALENDAR = {
    "name": "Zurich",
    "country": "CH",
    "region": "ZH",
    "days": [{"date": "12-24", "name": "Christmas Eve"}],
}

SCHEDULE = {
    "name": "Service Desk 24x7",
    "group": "Service Desk",
    "time_zone": "Europe/Zurich",
    "shifts": [
        {
            "name": "Weekly",
            "rotate": {
                "every": "1w",
                "at": "09:00",
                "on": "monday",
                "users": ["alice", "bob"],
                "roles": ["primary", "secondary"],
            },
            "start": "2026-01-05",
        }
    ],
}

OVERRIDE = {
    "name": "Xmas swap",
    "schedule": "Service Desk 24x7",
    "user": "alice",
    "from": "2026-12-24T17:00",
    "to": "2026-12-26T08:00",
    "role": "primary",
}

SUPPORT_HOURS = {
    "name": "Office hours",
    "time_zone": "Europe/Zurich",
    "windows": [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00"}],
}

POLICY = {
    "name": "Standard",
    "default_priority": "high",
    "acknowledge": {"effect": "stop", "timeout": "30m"},
    "repeat": {"times": 2, "every": "10m"},
    "steps": [
        {"notify": {"roles": ["primary"]}, "after": "0m"},
        {"notify": {"roles": ["secondary"]}, "after": "5m"},
    ],
}

CLIENT_TABLE = {
    "name": "Customers",
    "clients": [{"client": "Acme", "group": "Service Desk", "escalation_policy": "Standard"}],
}

OUTBOUND_INTEGRATION = {
    "name": "Halo", "kind": "haloitsm", "base_url": "https://acme.haloitsm.com", "client_id": "…",
    "client_secret": "…",  # nosec B105 # an example
    "sync": {"acknowledge": {"note": True}, "assign": {"note": True, "agent": True}, "close": {"note": True}},
}  # fmt: skip

INTEGRATION = {
    "name": "HaloITSM",
    "kind": "haloitsm",
    "escalation_policy": "Standard",
    "recipients": {"groups": ["Service Desk"]},
    "settings": {"halo_address": "https://acme.haloitsm.com"},
}

MAINTENANCE_WINDOW = {
    "name": "Patch night",
    "repeat": "monthly",
    "days": ["2nd tue"],
    "from": "22:00",
    "to": "02:00",
    "time_zone": "Europe/Zurich",
    "tags": {"environment": "production"},
    "action": "hold",
}

WORKFLOW = {
    "name": "Not acknowledged in 5 minutes",
    "trigger": {"on": "unacknowledged", "for": "5m"},
    "start": {"field": "priority", "operator": "one of", "value": ["critical", "high"]},
    "actions": [
        {"do": "notify", "groups": ["Service Desk"], "roles": ["manager"], "subject": "No response: <subject>"},
        {"do": "halo", "text": "Not acknowledged for 5 minutes."},
    ],
}

PROVIDER = {"name": "Phones", "kind": "ntfy", "api_base": "https://ntfy.sh", "order": 1}
