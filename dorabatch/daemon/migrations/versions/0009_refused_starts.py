"""Refused starts: attempts lost by no fault of the job, nodes that refuse starts.

Revision 0009. Never changed once released: a later revision builds on it.
"""

import sqlalchemy as sa
from alembic import op


revision = '0009'
down_revision = '0008'


def upgrade() -> None:
    """Go up: nothing was lost yet, and every node takes starts."""
    op.add_column('containers', sa.Column(
        'lost_requeues', sa.Integer(), nullable=False, server_default=sa.text('0')
    ))
    op.drop_column('containers', 'start_failures')
    op.create_table('node_refusals',
    sa.Column('zone', sa.String(length=63), nullable=False),
    sa.Column('name', sa.String(length=63), nullable=False),
    sa.Column('since', sa.BigInteger(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('tries', sa.Integer(), nullable=False),
    sa.Column('try_at', sa.BigInteger(), nullable=False),
    sa.Column('with_gpus', sa.Boolean(), nullable=False),
    sa.PrimaryKeyConstraint('zone', 'name', name=op.f('pk_node_refusals'))
    )


def downgrade() -> None:
    """Go down: every node is used again, and refused starts count from none."""
    op.drop_table('node_refusals')
    op.add_column('containers', sa.Column(
        'start_failures', sa.Integer(), nullable=False, server_default=sa.text('0')
    ))
    op.drop_column('containers', 'lost_requeues')
