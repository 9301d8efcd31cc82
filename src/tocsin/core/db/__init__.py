"""PostgreSQL connections, migrations, indexes and SQL helpers."""
