"""The fleet: what controllers publish and agents mirror, in a PostgreSQL database.

`Source` of ports is implemented here over PostgreSQL. The package is imported only where the
configuration has `fleet:`, because it needs psycopg, the `syncd[fleet]` extra.
"""
