"""Proves that answered messages are kept and pages are sent, whatever fails: `make prove`.

A scenario breaks something at a random moment while senders send. Afterwards the ledger says what was lost.
"""
