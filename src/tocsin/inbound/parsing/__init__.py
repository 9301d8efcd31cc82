"""Bodies as senders write them, read into one object: forms, JSON as strict or as lenient as it must be, XML. Pure."""
