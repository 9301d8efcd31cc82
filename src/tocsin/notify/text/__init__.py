"""The text of messages: formatting, translation, redaction, signed links, reply codes and the parser of commands."""
