"""Parses request bodies to objects: forms, strict or lenient JSON, XML, e-mails. Pure."""
