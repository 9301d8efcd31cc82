"""Endpoints of users, groups, contact methods and tokens."""
