"""Importers from other products: a thin client reads documents, and a pure converter turns them into YAML for `apply`,
with a report of all differences."""
