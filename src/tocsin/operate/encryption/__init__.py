"""What is stored encrypted, and bringing it under a new secret key."""
