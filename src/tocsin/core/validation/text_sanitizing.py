"""Makes untrusted text storable in PostgreSQL and encodable as UTF-8, and logins comparable."""

from __future__ import annotations

import re
import string

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def sanitize(text: str) -> str:
    """Replaces NUL and lone surrogates, which neither PostgreSQL nor UTF-8 can represent, with U+FFFD."""
    if "\x00" not in text:
        try:
            text.encode()  # the fastest check
        except UnicodeEncodeError:
            pass
        else:
            return text
    return _UNSTORABLE.sub("\ufffd", text)


def fold_login(login: str) -> str:
    """Returns a username or email address in the form in which two are compared: only A to Z are lowered.

    By Unicode's rules a dotless i, a long s or a Kelvin sign would make somebody else's login of a new one. The lookup
    `login` (`User.objects.filter(email__login=…)`) and `lower(… COLLATE "C")` do the same in the database.
    """
    return login.translate(_LOWER)
