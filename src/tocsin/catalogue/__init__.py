"""Catalogue: the kinds of integrations that Tocsin knows, and the hooks that extend them in Python."""
