"""Groups with their members, contacts and who is on call now."""
