"""Configuration as code: YAML files, plan, apply, and export."""
