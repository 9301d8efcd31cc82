"""What the rooms below say in English, in the reader's language.

Decisions, events and reasons are stored as English sentences: they are the record, the same for everybody and in the
API. A page in another language looks the sentence up: whole where the catalogue has it, else as one of the patterns in
`sentences` and `judgements`, whose values are filled in again, their own words translated too. What is unknown stays.
A moment, which the record has in UTC, is said by the reader's own clock, in every language.
"""

from __future__ import annotations

from tocsin.web.told.reading import told, told_in, told_of

__all__ = ["told", "told_in", "told_of"]
