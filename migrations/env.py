"""Alembic's entry: the connection, the version table and the tables come from the caller."""

from alembic import context

attributes = context.config.attributes
metadata = attributes.get("metadata")


def ours(name, type_, _parents):
    """Only the tables of this history: databases are shared."""
    return type_ != "table" or metadata is None or name in metadata.tables


context.configure(
    connection=attributes["connection"],
    target_metadata=metadata,
    version_table=attributes["version_table"],
    include_name=ours,
    render_as_batch=attributes["connection"].dialect.name == "sqlite",
    user_module_prefix="sql.",
)
context.run_migrations()
