"""The signed-in user's own profile, contact methods, notification rules, shifts and absences."""
