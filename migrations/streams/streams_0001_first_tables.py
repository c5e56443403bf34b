"""first tables"""

import sqlalchemy as sa
from alembic import op

from app.kernel import sql

revision = "streams_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "streams_feeds",
        sa.Column("source", sa.String(length=300), nullable=False),
        sa.Column("position", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_streams_feeds")),
    )
    op.create_table(
        "streams_topics",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("description", sa.String(length=1000), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("partitions", sa.Integer(), nullable=False),
        sa.Column("replicas", sa.Integer(), nullable=False),
        sa.Column("overflow", sa.String(length=11), nullable=False),
        sa.Column(
            "max_age_seconds", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "max_records", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("max_bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("max_lag", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("pending", sa.String(length=8), nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_streams_topics")),
        sa.UniqueConstraint("project", "name", name=op.f("uq_streams_topics_project_name")),
    )
    with op.batch_alter_table("streams_topics", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_streams_topics_project"), ["project"], unique=False)

    op.create_table(
        "streams_groups",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("description", sa.String(length=1000), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("topic_id", sa.String(length=36), nullable=False),
        sa.Column("topic", sa.String(length=63), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=True),
        sa.Column("epoch", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["topic_id"],
            ["streams_topics.id"],
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_streams_groups")),
        sa.UniqueConstraint("project", "name", name=op.f("uq_streams_groups_project_name")),
    )
    with op.batch_alter_table("streams_groups", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_streams_groups_project"), ["project"], unique=False)
        batch_op.create_index(batch_op.f("ix_streams_groups_topic_id"), ["topic_id"], unique=False)

    op.create_table(
        "streams_assignments",
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("member_id", sa.String(length=36), nullable=True),
        sa.Column("epoch", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("offset", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("note", sa.String(length=1000), nullable=False),
        sa.Column("committed_at", sql.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["group_id"],
            ["streams_groups.id"],
        ),
        sa.PrimaryKeyConstraint("group_id", "partition", name=op.f("pk_streams_assignments")),
    )
    op.create_table(
        "streams_members",
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("group", sa.String(length=200), nullable=False),
        sa.Column("client", sa.String(length=200), nullable=False),
        sa.Column("lease_until", sql.UtcDateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"],
            ["streams_groups.id"],
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_streams_members")),
    )
    with op.batch_alter_table("streams_members", schema=None) as batch_op:
        batch_op.create_index("ix_streams_members_group_id", ["group_id", "id"], unique=False)
        batch_op.create_index(batch_op.f("ix_streams_members_project"), ["project"], unique=False)

    op.create_table(
        "streams_processors",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("description", sa.String(length=1000), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("topic", sa.String(length=63), nullable=False),
        sa.Column("topic_id", sa.String(length=36), nullable=False),
        sa.Column("output_topic", sa.String(length=63), nullable=True),
        sa.Column("output_id", sa.String(length=36), nullable=True),
        sa.Column("dead_letter_topic", sa.String(length=63), nullable=True),
        sa.Column("dead_letter_id", sa.String(length=36), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_streams_processors")),
        sa.UniqueConstraint("project", "name", name=op.f("uq_streams_processors_project_name")),
    )
    with op.batch_alter_table("streams_processors", schema=None) as batch_op:
        for column in ("dead_letter_id", "output_id", "project", "state", "topic_id"):
            batch_op.create_index(
                batch_op.f(f"ix_streams_processors_{column}"), [column], unique=False
            )

    counts = ("taken", "written", "dead", "dropped", "late", "gone", "errors")
    op.create_table(
        "streams_processor_progress",
        sa.Column("processor", sa.String(length=36), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        *(
            sa.Column(name, sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False)
            for name in counts
        ),
        sa.Column("rate", sa.Float(), nullable=False),
        sa.Column("rated_at", sql.UtcDateTime(timezone=True), nullable=True),
        sa.Column(
            "tried_offset", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("last_failure", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint(
            "processor", "partition", name=op.f("pk_streams_processor_progress")
        ),
    )
    op.create_table(
        "streams_processor_watermarks",
        sa.Column("processor", sa.String(length=36), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "watermark", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.PrimaryKeyConstraint(
            "processor", "partition", name=op.f("pk_streams_processor_watermarks")
        ),
    )
    op.create_table(
        "streams_processor_windows",
        sa.Column("processor", sa.String(length=36), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "start",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint(
            "processor", "partition", "start", "key", name=op.f("pk_streams_processor_windows")
        ),
    )
    op.create_table(
        "streams_view_learners",
        sa.Column("view_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(
            "view_id", "number", "partition", name=op.f("pk_streams_view_learners")
        ),
    )
    op.create_table(
        "streams_view_totals",
        sa.Column("view_id", sa.String(length=36), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("drifts", sa.Integer(), nullable=False),
        sa.Column("drifted_at", sql.UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("view_id", "partition", name=op.f("pk_streams_view_totals")),
    )
    op.create_table(
        "streams_learners",
        sa.Column("processor", sa.String(length=36), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("learnt", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("processor", "partition", name=op.f("pk_streams_learners")),
    )

    op.create_table(
        "streams_view_batches",
        sa.Column("view_id", sa.String(length=36), nullable=False),
        sa.Column("view", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("offsets", sa.JSON(), nullable=True),
        sa.Column("base", sa.Integer(), nullable=True),
        sa.Column("records", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("skipped", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("groups", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("digest", sa.String(length=80), nullable=True),
        sa.Column("contents", sa.JSON(), nullable=True),
        sa.Column("training", sa.JSON(), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("stored_state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("started_at", sql.UtcDateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sql.UtcDateTime(timezone=True), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("progress_fraction", sa.Float(), nullable=False),
        sa.Column("progress_step", sa.String(length=64), nullable=False),
        sa.Column("progress_message", sa.String(length=400), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_streams_view_batches")),
        sa.UniqueConstraint(
            "view_id", "number", name=op.f("uq_streams_view_batches_view_id_number")
        ),
    )
    with op.batch_alter_table("streams_view_batches", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_streams_view_batches_project"), ["project"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_streams_view_batches_stored_state"), ["stored_state"], unique=False
        )

    op.create_table(
        "streams_view_rows",
        sa.Column("view_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column(
            "key",
            sa.String(length=400).with_variant(sa.String(length=400, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("tallies", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(
            "view_id", "number", "partition", "key", name=op.f("pk_streams_view_rows")
        ),
    )
    op.create_table(
        "streams_view_speed",
        sa.Column("view_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("records", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("skipped", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("moved_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "view_id", "number", "partition", name=op.f("pk_streams_view_speed")
        ),
    )
    op.create_table(
        "streams_views",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("description", sa.String(length=1000), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("topic", sa.String(length=63), nullable=False),
        sa.Column("topic_id", sa.String(length=36), nullable=False),
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("every_seconds", sa.Integer(), nullable=True),
        sa.Column("lag_records", sa.Integer(), nullable=True),
        sa.Column("origin", sa.JSON(), nullable=False),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.Column("serving_number", sa.Integer(), nullable=False),
        sa.Column("serving_offsets", sa.JSON(), nullable=False),
        sa.Column("serving_contents", sa.JSON(), nullable=True),
        sa.Column("serving_since", sql.UtcDateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sql.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_streams_views")),
        sa.UniqueConstraint("project", "name", name=op.f("uq_streams_views_project_name")),
    )
    with op.batch_alter_table("streams_views", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_streams_views_project"), ["project"], unique=False)
        batch_op.create_index(batch_op.f("ix_streams_views_topic_id"), ["topic_id"], unique=False)


def downgrade() -> None:
    """Take back."""
    op.drop_table("streams_learners")
    op.drop_table("streams_view_totals")
    op.drop_table("streams_view_learners")
    with op.batch_alter_table("streams_views", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_streams_views_topic_id"))
        batch_op.drop_index(batch_op.f("ix_streams_views_project"))

    op.drop_table("streams_views")
    op.drop_table("streams_view_speed")
    op.drop_table("streams_view_rows")
    with op.batch_alter_table("streams_view_batches", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_streams_view_batches_stored_state"))
        batch_op.drop_index(batch_op.f("ix_streams_view_batches_project"))

    op.drop_table("streams_view_batches")

    op.drop_table("streams_processor_windows")
    op.drop_table("streams_processor_watermarks")
    op.drop_table("streams_processor_progress")
    op.drop_table("streams_processors")
    with op.batch_alter_table("streams_members", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_streams_members_project"))
        batch_op.drop_index("ix_streams_members_group_id")

    op.drop_table("streams_members")
    op.drop_table("streams_assignments")
    with op.batch_alter_table("streams_groups", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_streams_groups_topic_id"))
        batch_op.drop_index(batch_op.f("ix_streams_groups_project"))

    op.drop_table("streams_groups")
    with op.batch_alter_table("streams_topics", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_streams_topics_project"))

    op.drop_table("streams_topics")
    op.drop_table("streams_feeds")
