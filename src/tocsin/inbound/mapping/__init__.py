"""Which payload value becomes which field: paths, templates, and what is done to a value before it counts. Pure."""
