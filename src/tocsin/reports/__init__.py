"""Reports on past alerts: response times, and pages at night. Reads only."""
