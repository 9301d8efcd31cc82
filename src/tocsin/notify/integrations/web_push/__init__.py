"""The built-in Web Push provider kind: pushes to users' own browsers."""
