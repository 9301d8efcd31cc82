"""The artefacts of a release, each built, installed alone on a clean system, and used."""
