"""Shares: the account tree, policy settings, their history, use and forecasts.

Revision 0004. Never changed once released: a later revision builds on it.
"""

import sqlalchemy as sa
from alembic import op


revision = '0004'
down_revision = '0003'


def upgrade() -> None:
    """Go up."""
    make_policy()
    make_usage()


def make_policy() -> None:
    """What administrators say, and what they said."""
    op.create_table('share_accounts',
    sa.Column('zone', sa.String(length=63), nullable=False),
    sa.Column('name', sa.String(length=128), nullable=False),
    sa.Column('parent', sa.String(length=128), nullable=False),
    sa.Column('shares', sa.BigInteger(), nullable=False),
    sa.Column('is_user', sa.Boolean(), nullable=False),
    sa.PrimaryKeyConstraint('zone', 'name', name=op.f('pk_share_accounts'))
    )
    op.create_table('policy_settings',
    sa.Column('zone', sa.String(length=63), nullable=False),
    sa.Column('key', sa.String(length=128), nullable=False),
    sa.Column('value', sa.Text(), nullable=False),
    sa.Column('is_set', sa.Boolean(), nullable=False),
    sa.PrimaryKeyConstraint('zone', 'key', name=op.f('pk_policy_settings'))
    )
    op.create_table('policy_changes',
    sa.Column('id', sa.Integer(), autoincrement=True, nullable=False),
    sa.Column('zone', sa.String(length=63), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('actor', sa.String(length=64), nullable=False),
    sa.Column('key', sa.String(length=200), nullable=False),
    sa.Column('old', sa.Text(), nullable=False),
    sa.Column('new', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_policy_changes'))
    )
    with op.batch_alter_table('policy_changes', schema=None) as batch_op:
        batch_op.create_index('ix_policy_changes_zone_at', ['zone', 'at'], unique=False)


def make_usage() -> None:
    """What was used, and what was foretold."""
    op.create_table('share_usage',
    sa.Column('zone', sa.String(length=63), nullable=False),
    sa.Column('name', sa.String(length=128), nullable=False),
    sa.Column('used', sa.Float(precision=53), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('is_active', sa.Boolean(), nullable=False),
    sa.PrimaryKeyConstraint('zone', 'name', name=op.f('pk_share_usage'))
    )
    op.create_table('share_raises',
    sa.Column('zone', sa.String(length=63), nullable=False),
    sa.Column('name', sa.String(length=128), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('amount', sa.Float(precision=53), nullable=False),
    sa.PrimaryKeyConstraint('zone', 'name', 'at', name=op.f('pk_share_raises'))
    )
    op.create_table('start_forecasts',
    sa.Column('workload_id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('zone', sa.String(length=63), nullable=False),
    sa.Column('made_at', sa.BigInteger(), nullable=False),
    sa.Column('low', sa.BigInteger(), nullable=False),
    sa.Column('high', sa.BigInteger(), nullable=False),
    sa.Column('started_at', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('workload_id', name=op.f('pk_start_forecasts'))
    )
    with op.batch_alter_table('start_forecasts', schema=None) as batch_op:
        batch_op.create_index('ix_start_forecasts_zone_made_at', ['zone', 'made_at'], unique=False)


def downgrade() -> None:
    """Go down."""
    op.drop_table('start_forecasts')
    op.drop_table('share_raises')
    op.drop_table('share_usage')
    op.drop_table('policy_changes')
    op.drop_table('policy_settings')
    op.drop_table('share_accounts')
