"""Actions on escalations: manual alerts and escalation, forecasts, and explanations."""
