"""Identity providers: single sign-on and provisioning."""
