"""Django's database backend for PostgreSQL, on connections that are replaced after a failover."""
