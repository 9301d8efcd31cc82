"""Moving here from other products: a thin client reads their documents, and a pure translation makes of them the YAML
that `apply` reads, with a report of everything that is not as it was."""
