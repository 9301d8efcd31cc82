"""A Django database backend for PostgreSQL whose connections are replaced after a failover."""
