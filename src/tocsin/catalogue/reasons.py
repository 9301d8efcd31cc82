"""Why a setting of an integration is rejected."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

# Problems of an integration's setting. Each completes a sentence that begins with its path.
SETTING_NOT_A_MAP = ReasonType("integration.setting_not_a_map", "must map values, such as 1 = New.")
SETTING_NOT_TEXT = ReasonType("integration.setting_not_text", "must be text of at most {maximum} characters.")
SETTING_NOT_POSITIVE = ReasonType("integration.setting_not_positive", "must be greater than zero.")
SETTING_NOT_CRON = ReasonType(
    "integration.setting_not_cron", "must be five cron fields such as 0 3 * * *, which means 3:00 every day ({error})."
)
SETTING_NOT_A_URL = ReasonType("integration.setting_not_a_url", "must be a URL such as https://acme.haloitsm.com.")
