"""Encrypted columns, and their re-encryption with a new secret key."""
