"""Commands that change users, groups and absences."""
