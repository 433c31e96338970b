"""Holds: workloads of which nothing starts, with who wants that and why.

Revision 0006. Never changed once released: a later revision builds on it.
"""

import sqlalchemy as sa
from alembic import op


revision = '0006'
down_revision = '0005'


def upgrade() -> None:
    """Go up: nothing is held."""
    op.add_column('workloads', sa.Column('held_by', sa.String(length=64)))
    op.add_column('workloads', sa.Column('held_reason', sa.Text()))


def downgrade() -> None:
    """Go down: what is held may start."""
    op.drop_column('workloads', 'held_reason')
    op.drop_column('workloads', 'held_by')
