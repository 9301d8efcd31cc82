"""Pausing all paging."""
