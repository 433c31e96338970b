"""Nodes that were lost: since when, and who said so.

Revision 0010. Never changed once released: a later revision builds on it.
"""

import sqlalchemy as sa
from alembic import op


revision = '0010'
down_revision = '0009'


def upgrade() -> None:
    """Go up: no node is lost."""
    op.add_column('node_facts', sa.Column('lost_at', sa.BigInteger()))
    op.add_column('node_facts', sa.Column('lost_by', sa.String(length=64)))


def downgrade() -> None:
    """Go down: a lost node that answers is used as any other."""
    op.drop_column('node_facts', 'lost_by')
    op.drop_column('node_facts', 'lost_at')
