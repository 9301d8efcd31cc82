"""The Mapping, Rules and Routing editor of an inbound integration."""
