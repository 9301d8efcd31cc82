"""The installation's health, pre-flight check and settings."""
