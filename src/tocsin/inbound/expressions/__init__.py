"""Paths, fields and conditions over payloads: the language of mappings, rules, filters and routes. Pure."""
