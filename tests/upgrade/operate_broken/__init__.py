"""Migrations of `operate`, the last of which fails."""
