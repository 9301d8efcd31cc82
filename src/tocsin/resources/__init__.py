"""What a configurable object is: one description of each, for YAML, the REST API and the pages."""
