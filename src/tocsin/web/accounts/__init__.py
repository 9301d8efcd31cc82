"""Sign-in, passwords, second factors, invitations and sessions."""
