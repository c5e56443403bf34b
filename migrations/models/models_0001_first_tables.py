"""first tables"""

import sqlalchemy as sa
from alembic import op

from app.kernel import sql

revision = "models_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "models_models",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("description", sa.String(length=1000), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("retention", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.Column("newest_version", sa.Integer(), nullable=True),
        sa.Column("removal", sa.String(length=36), nullable=True),
        sa.Column("removal_until", sql.UtcDateTime(timezone=True), nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models_models")),
        sa.UniqueConstraint("project", "name", name=op.f("uq_models_models_project_name")),
    )
    with op.batch_alter_table("models_models", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_models_models_project"), ["project"], unique=False)

    op.create_table(
        "models_alias_moves",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("model_id", sa.String(length=36), nullable=False),
        sa.Column("alias", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("from_version", sa.Integer(), nullable=True),
        sa.Column("to_version", sa.Integer(), nullable=True),
        sa.Column("before", sa.Integer(), nullable=True),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("moved_by", sa.String(length=40), nullable=False),
        sa.Column("moved_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["models_models.id"],
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models_alias_moves")),
        sa.UniqueConstraint(
            "model_id", "alias", "number", name=op.f("uq_models_alias_moves_model_id_alias_number")
        ),
    )
    op.create_table(
        "models_aliases",
        sa.Column("model_id", sa.String(length=36), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("alias", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("moved_by", sa.String(length=40), nullable=False),
        sa.Column("moved_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["models_models.id"],
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models_aliases")),
        sa.UniqueConstraint("model_id", "alias", name=op.f("uq_models_aliases_model_id_alias")),
    )
    with op.batch_alter_table("models_aliases", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_models_aliases_project"), ["project"], unique=False)

    op.create_table(
        "models_versions",
        sa.Column("model_id", sa.String(length=36), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("task", sa.String(length=32), nullable=True),
        sa.Column("training_run", sa.String(length=36), nullable=True),
        sa.Column("dataset", sa.String(length=63), nullable=True),
        sa.Column("dataset_version", sa.Integer(), nullable=True),
        sa.Column("description", sa.String(length=1000), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("removal", sa.String(length=36), nullable=True),
        sa.Column("removal_until", sql.UtcDateTime(timezone=True), nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["models_models.id"],
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models_versions")),
        sa.UniqueConstraint(
            "project", "model", "number", name=op.f("uq_models_versions_project_model_number")
        ),
        sa.UniqueConstraint(
            "project", "training_run", name=op.f("uq_models_versions_project_training_run")
        ),
    )
    with op.batch_alter_table("models_versions", schema=None) as batch_op:
        batch_op.create_index(
            "ix_models_versions_dataset", ["project", "dataset", "dataset_version"], unique=False
        )
        batch_op.create_index("ix_models_versions_model_id", ["model_id", "number"], unique=False)
        batch_op.create_index(batch_op.f("ix_models_versions_project"), ["project"], unique=False)
        batch_op.create_index(batch_op.f("ix_models_versions_state"), ["state"], unique=False)

    op.create_table(
        "models_artifacts",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("version_id", sa.String(length=36), nullable=True),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=300), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("mac", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["models_versions.id"],
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models_artifacts")),
        sa.UniqueConstraint("key", name=op.f("uq_models_artifacts_key")),
        sa.UniqueConstraint(
            "version_id", "format", name=op.f("uq_models_artifacts_version_id_format")
        ),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("models_artifacts")
    with op.batch_alter_table("models_versions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_models_versions_state"))
        batch_op.drop_index(batch_op.f("ix_models_versions_project"))
        batch_op.drop_index("ix_models_versions_model_id")
        batch_op.drop_index("ix_models_versions_dataset")

    op.drop_table("models_versions")
    with op.batch_alter_table("models_aliases", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_models_aliases_project"))

    op.drop_table("models_aliases")
    op.drop_table("models_alias_moves")
    with op.batch_alter_table("models_models", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_models_models_project"))

    op.drop_table("models_models")
