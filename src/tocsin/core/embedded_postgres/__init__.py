"""The PostgreSQL server that Tocsin runs itself when no database URL is configured."""
