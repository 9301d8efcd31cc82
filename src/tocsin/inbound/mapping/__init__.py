"""Mapping of payload values to fields: paths, templates, and transformations of values. Pure."""
