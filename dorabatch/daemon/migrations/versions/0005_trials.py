"""Trials: how long an attempt may run on trial, and what became of those before.

Revision 0005. Never changed once released: a later revision builds on it.
"""

import sqlalchemy as sa
from alembic import op


revision = '0005'
down_revision = '0004'


def upgrade() -> None:
    """Go up: nothing is on trial, and nothing was."""
    op.add_column('containers', sa.Column('trial_seconds', sa.Integer()))
    op.add_column('containers', sa.Column(
        'trial_stops', sa.Integer(), nullable=False, server_default=sa.text('0')
    ))
    op.add_column('containers', sa.Column(
        'tried', sa.Boolean(), nullable=False, server_default=sa.false()
    ))


def downgrade() -> None:
    """Go down: what is on trial goes on as an ordinary run."""
    op.drop_column('containers', 'tried')
    op.drop_column('containers', 'trial_stops')
    op.drop_column('containers', 'trial_seconds')
