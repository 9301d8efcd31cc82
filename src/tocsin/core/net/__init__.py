"""HTTP server, outbound connections and mailboxes: everything that touches a socket, except the database."""
