"""The first tables: workloads, containers, attempts, events, kinds, daemons.

Revision 0001. Never changed once released: a later revision builds on it.
"""

import sqlalchemy as sa
from alembic import op


revision = '0001'
down_revision = None


def upgrade() -> None:
    """Go up."""
    op.create_table('daemons',
    sa.Column('zone', sa.String(length=63), nullable=False),
    sa.Column('epoch', sa.BigInteger(), nullable=False),
    sa.Column('cluster_id', sa.String(length=32), nullable=False),
    sa.Column('started_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('zone', name=op.f('pk_daemons'))
    )
    op.create_table('ids',
    sa.Column('name', sa.String(length=32), nullable=False),
    sa.Column('next_id', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_ids'))
    )
    op.create_table('node_facts',
    sa.Column('zone', sa.String(length=63), nullable=False),
    sa.Column('name', sa.String(length=63), nullable=False),
    sa.Column('facts', sa.Text(), nullable=False),
    sa.Column('seen_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('zone', 'name', name=op.f('pk_node_facts'))
    )
    op.create_table('objects',
    sa.Column('kind', sa.String(length=32), nullable=False),
    sa.Column('zone', sa.String(length=63), nullable=False),
    sa.Column('workspace', sa.String(length=63), nullable=False),
    sa.Column('name', sa.String(length=128), nullable=False),
    sa.Column('spec', sa.Text(), nullable=False),
    sa.Column('owner', sa.String(length=64), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('changed_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('kind', 'zone', 'workspace', 'name', name=op.f('pk_objects'))
    )
    op.create_table('workloads',
    sa.Column('id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('zone', sa.String(length=63), nullable=False),
    sa.Column('workspace', sa.String(length=63), nullable=False),
    sa.Column('name', sa.String(length=63), nullable=False),
    sa.Column('user', sa.String(length=64), nullable=False),
    sa.Column('uid', sa.BigInteger(), nullable=False),
    sa.Column('gid', sa.BigInteger(), nullable=False),
    sa.Column('groups', sa.JSON(), nullable=False),
    sa.Column('spec', sa.Text(), nullable=False),
    sa.Column('spec_digest', sa.String(length=64), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('replicas', sa.Integer(), nullable=False),
    sa.Column('submission_key', sa.String(length=64), nullable=True),
    sa.Column('submitted_at', sa.BigInteger(), nullable=False),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_workloads')),
    sa.UniqueConstraint('submission_key', name=op.f('uq_workloads_submission_key'))
    )
    with op.batch_alter_table('workloads', schema=None) as batch_op:
        batch_op.create_index('ix_workloads_user', ['user'], unique=False)
        batch_op.create_index('ix_workloads_zone_ended_at', ['zone', 'ended_at'], unique=False)
        batch_op.create_index('uq_workloads_live_name', ['zone', 'workspace', 'name'], unique=True, sqlite_where=sa.text('ended_at IS NULL'), postgresql_where=sa.text('ended_at IS NULL'))

    op.create_table('containers',
    sa.Column('id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('workload_id', sa.BigInteger(), nullable=False),
    sa.Column('replica', sa.Integer(), nullable=False),
    sa.Column('state', sa.String(length=16), nullable=False),
    sa.Column('rev', sa.Integer(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('queued_at', sa.BigInteger(), nullable=False),
    sa.Column('ready_at', sa.BigInteger(), nullable=True),
    sa.Column('hold', sa.JSON(none_as_null=True), nullable=True),
    sa.Column('docker_id', sa.String(length=80), nullable=True),
    sa.Column('started_at', sa.BigInteger(), nullable=True),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.Column('exit_code', sa.Integer(), nullable=True),
    sa.Column('outcome', sa.String(length=20), nullable=True),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('after_stop', sa.String(length=10), nullable=True),
    sa.Column('fast_failures', sa.Integer(), nullable=False),
    sa.Column('start_failures', sa.Integer(), nullable=False),
    sa.Column('removed', sa.Boolean(), nullable=False),
    sa.ForeignKeyConstraint(['workload_id'], ['workloads.id'], name=op.f('fk_containers_workload_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_containers')),
    sa.UniqueConstraint('workload_id', 'replica', name=op.f('uq_containers_workload_id_replica'))
    )
    with op.batch_alter_table('containers', schema=None) as batch_op:
        batch_op.create_index('ix_containers_state', ['state'], unique=False)

    op.create_table('events',
    sa.Column('id', sa.Integer(), autoincrement=True, nullable=False),
    sa.Column('workload_id', sa.BigInteger(), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('replica', sa.Integer(), nullable=True),
    sa.Column('kind', sa.String(length=20), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['workload_id'], ['workloads.id'], name=op.f('fk_events_workload_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_events'))
    )
    with op.batch_alter_table('events', schema=None) as batch_op:
        batch_op.create_index('ix_events_workload_id', ['workload_id'], unique=False)

    op.create_table('versions',
    sa.Column('workload_id', sa.BigInteger(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('spec', sa.Text(), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('user', sa.String(length=64), nullable=False),
    sa.ForeignKeyConstraint(['workload_id'], ['workloads.id'], name=op.f('fk_versions_workload_id')),
    sa.PrimaryKeyConstraint('workload_id', 'version', name=op.f('pk_versions'))
    )
    op.create_table('runs',
    sa.Column('container_id', sa.BigInteger(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('node', sa.String(length=63), nullable=False),
    sa.Column('hold', sa.JSON(), nullable=False),
    sa.Column('placed_at', sa.BigInteger(), nullable=False),
    sa.Column('started_at', sa.BigInteger(), nullable=True),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.Column('exit_code', sa.Integer(), nullable=True),
    sa.Column('outcome', sa.String(length=20), nullable=True),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['container_id'], ['containers.id'], name=op.f('fk_runs_container_id')),
    sa.PrimaryKeyConstraint('container_id', 'attempt', name=op.f('pk_runs'))
    )
    with op.batch_alter_table('runs', schema=None) as batch_op:
        batch_op.create_index('ix_runs_node', ['node'], unique=False)



def downgrade() -> None:
    """Go down."""
    with op.batch_alter_table('runs', schema=None) as batch_op:
        batch_op.drop_index('ix_runs_node')

    op.drop_table('runs')
    op.drop_table('versions')
    with op.batch_alter_table('events', schema=None) as batch_op:
        batch_op.drop_index('ix_events_workload_id')

    op.drop_table('events')
    with op.batch_alter_table('containers', schema=None) as batch_op:
        batch_op.drop_index('ix_containers_state')

    op.drop_table('containers')
    with op.batch_alter_table('workloads', schema=None) as batch_op:
        batch_op.drop_index('uq_workloads_live_name', sqlite_where=sa.text('ended_at IS NULL'), postgresql_where=sa.text('ended_at IS NULL'))
        batch_op.drop_index('ix_workloads_zone_ended_at')
        batch_op.drop_index('ix_workloads_user')

    op.drop_table('workloads')
    op.drop_table('objects')
    op.drop_table('node_facts')
    op.drop_table('ids')
    op.drop_table('daemons')
