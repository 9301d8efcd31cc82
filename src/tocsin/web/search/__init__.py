"""The search in the side bar."""
