"""Roles, API tokens, the audit log, and the set-up link of the first administrator."""
