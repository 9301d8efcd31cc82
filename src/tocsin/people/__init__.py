"""Users, groups, contact methods, notification rules and absences."""
