"""The connector for templated HTTP calls."""
