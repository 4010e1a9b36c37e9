"""Tables of the second release."""

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the schema one step on."""


def downgrade() -> None:
    """Take the schema one step back."""
