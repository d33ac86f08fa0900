"""Runs the migrations of the fleet's database, on the connection and in the transaction of the
caller.
"""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes.get("metadata"),
    transaction_per_migration=False,
    version_table_schema="syncd",
    include_schemas=True,
    include_name=lambda name, kind, _parents: kind != "schema" or name == "syncd",
)
context.run_migrations()
