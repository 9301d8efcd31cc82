"""Configuration of integrations and client tables for the UI, API and CLI: reading specs, saving, drafts, samples."""
