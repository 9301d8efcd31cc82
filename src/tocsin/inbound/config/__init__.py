"""Compiled configuration of integrations, as the hot path uses it: rules, routes, noise reduction, credentials."""
