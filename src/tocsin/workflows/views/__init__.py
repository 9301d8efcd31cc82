"""Read-only views of workflows: manual workflows on an alert, dry run, and problems."""
