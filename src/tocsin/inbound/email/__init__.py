"""E-mail ingestion: an SMTP listener, IMAP polling, and conversion of e-mails to messages."""
