"""Reports on response times and pages at night."""
