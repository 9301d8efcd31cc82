"""Parsing and validation of names, durations, CSV, URLs and nested objects. Pure."""
