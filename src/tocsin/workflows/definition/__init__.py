"""Workflow definitions: parsing, descriptions, templates, and edits while runs are waiting."""
