"""Client tables for routing."""
