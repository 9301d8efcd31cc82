"""The wall board for an unattended screen."""
