"""How each artefact of a release is built: one module for each, listed in scripts/dist.py."""
