"""Dependencies: the workloads that one waits for, by their ids.

Revision 0007. Never changed once released: a later revision builds on it.
"""

import sqlalchemy as sa
from alembic import op


revision = '0007'
down_revision = '0006'


def upgrade() -> None:
    """Go up: nothing waits for another."""
    op.add_column(
        'workloads',
        sa.Column('dependency', sa.Text(), nullable=False, server_default=sa.text("''")),
    )


def downgrade() -> None:
    """Go down: what waits for others may start."""
    op.drop_column('workloads', 'dependency')
