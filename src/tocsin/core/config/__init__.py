"""Process configuration, stored settings, and the encryption of secrets at rest."""
