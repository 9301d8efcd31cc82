"""The start view: alerts, problems, who is on call and the setup checklist."""
