"""Endpoints of the audit log, imports, reports, settings and health."""
