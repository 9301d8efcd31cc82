"""Operation of an installation: self-check, doctor, backup, metrics, encryption keys, and retention."""
