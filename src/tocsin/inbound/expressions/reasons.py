"""The facts that decide a condition, as reasons: which value a field had, and how it compared.

`value` is what the message has, on one line and cut; `expected` is what the condition compares it with.
"""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

ALWAYS = ReasonType("condition.always", "always")
NEVER = ReasonType("condition.never", "never")
NO_VALUE = ReasonType("condition.no_value", "no value at {field}")
EXISTS = ReasonType("condition.exists", '{field} "{value}" exists')

CONTAINS = ReasonType("condition.contains", '{field} "{value}" contains {expected}')
DOES_NOT_CONTAIN = ReasonType("condition.does_not_contain", '{field} "{value}" does not contain {expected}')
CONTAINS_NONE = ReasonType("condition.contains_none", '{field} "{value}" does not contain any of {expected}')
CONTAINS_WORD = ReasonType("condition.contains_word", '{field} "{value}" contains the word {expected}')
DOES_NOT_CONTAIN_WORD = ReasonType(
    "condition.does_not_contain_word", '{field} "{value}" does not contain the word {expected}'
)
CONTAINS_NO_WORD = ReasonType("condition.contains_no_word", '{field} "{value}" contains none of the words {expected}')
EQUALS = ReasonType("condition.equals", '{field} "{value}" equals {expected}')
DOES_NOT_EQUAL = ReasonType("condition.does_not_equal", '{field} "{value}" does not equal {expected}')
EQUALS_NONE = ReasonType("condition.equals_none", '{field} "{value}" does not equal any of {expected}')
STARTS_WITH = ReasonType("condition.starts_with", '{field} "{value}" starts with {expected}')
DOES_NOT_START_WITH = ReasonType("condition.does_not_start_with", '{field} "{value}" does not start with {expected}')
STARTS_WITH_NONE = ReasonType("condition.starts_with_none", '{field} "{value}" does not start with any of {expected}')
ENDS_WITH = ReasonType("condition.ends_with", '{field} "{value}" ends with {expected}')
DOES_NOT_END_WITH = ReasonType("condition.does_not_end_with", '{field} "{value}" does not end with {expected}')
ENDS_WITH_NONE = ReasonType("condition.ends_with_none", '{field} "{value}" does not end with any of {expected}')
MATCHES = ReasonType("condition.matches", '{field} "{value}" matches regex {expected}')
DOES_NOT_MATCH = ReasonType("condition.does_not_match", '{field} "{value}" does not match regex {expected}')
IS_ONE_OF = ReasonType("condition.is_one_of", '{field} "{value}" is one of {expected}')
IS_NOT_ONE_OF = ReasonType("condition.is_not_one_of", '{field} "{value}" is not one of {expected}')
IS_GREATER = ReasonType("condition.is_greater", '{field} "{value}" is greater than {expected}')
IS_NOT_GREATER = ReasonType("condition.is_not_greater", '{field} "{value}" is not greater than {expected}')
IS_LESS = ReasonType("condition.is_less", '{field} "{value}" is less than {expected}')
IS_NOT_LESS = ReasonType("condition.is_not_less", '{field} "{value}" is not less than {expected}')

#: Several facts that decided together; the last of them is `MORE_FACTS` if not all are listed.
FACTS = ReasonType("condition.facts", "{facts}")
