"""The fleet on a real PostgreSQL: the database lane."""
