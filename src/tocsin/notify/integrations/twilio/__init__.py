"""The Twilio provider kind: text messages and phone calls."""
