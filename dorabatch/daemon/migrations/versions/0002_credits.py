"""Credits: prices, allocations, meters, the append-only ledger and its caches.

Revision 0002. Never changed once released: a later revision builds on it.
"""

import sqlalchemy as sa
from alembic import op


revision = '0002'
down_revision = '0001'

APPEND_ONLY = (
    'credit_prices',
    'credit_allocations',
    'credit_meters',
    'ledger_txns',
    'ledger_legs',
)


def upgrade() -> None:
    """Go up."""
    make_terms()
    make_ledger()
    make_caches()
    for table in APPEND_ONLY:
        for statement in refusals(table, op.get_bind().dialect.name):
            op.execute(statement)


def make_terms() -> None:
    """Prices, allocations and meters."""
    op.create_table('credit_prices',
    sa.Column('zone', sa.String(length=63), nullable=False),
    sa.Column('model', sa.String(length=128), nullable=False),
    sa.Column('valid_from', sa.BigInteger(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('per_hour_ucr', sa.BigInteger(), nullable=False),
    sa.Column('actor', sa.String(length=64), nullable=False),
    sa.PrimaryKeyConstraint('zone', 'model', 'valid_from', 'version', name=op.f('pk_credit_prices'))
    )
    op.create_table('credit_allocations',
    sa.Column('id', sa.String(length=200), nullable=False),
    sa.Column('zone', sa.String(length=63), nullable=False),
    sa.Column('account', sa.String(length=128), nullable=False),
    sa.Column('kind', sa.String(length=10), nullable=False),
    sa.Column('valid_from', sa.BigInteger(), nullable=False),
    sa.Column('valid_to', sa.BigInteger(), nullable=False),
    sa.Column('on_exhaust', sa.String(length=10), nullable=False),
    sa.Column('rollover_ppm', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_credit_allocations'))
    )
    with op.batch_alter_table('credit_allocations', schema=None) as batch_op:
        batch_op.create_index('ix_credit_allocations_zone_account', ['zone', 'account'], unique=False)

    op.create_table('credit_meters',
    sa.Column('run', sa.String(length=128), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('terms', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('run', 'number', name=op.f('pk_credit_meters'))
    )


def make_ledger() -> None:
    """Entries and their legs."""
    op.create_table('ledger_txns',
    sa.Column('id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('kind', sa.String(length=10), nullable=False),
    sa.Column('idem_key', sa.String(length=250), nullable=False),
    sa.Column('zone', sa.String(length=63), nullable=False),
    sa.Column('account', sa.String(length=128), nullable=False),
    sa.Column('run', sa.String(length=128), nullable=False),
    sa.Column('segment', sa.Integer(), nullable=False),
    sa.Column('actor', sa.String(length=64), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('prev_hash', sa.String(length=64), nullable=False),
    sa.Column('hash', sa.String(length=64), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_ledger_txns')),
    sa.UniqueConstraint('idem_key', name=op.f('uq_ledger_txns_idem_key'))
    )
    with op.batch_alter_table('ledger_txns', schema=None) as batch_op:
        batch_op.create_index('ix_ledger_txns_at', ['at'], unique=False)
        batch_op.create_index('ix_ledger_txns_kind_at', ['kind', 'at'], unique=False)

    op.create_table('ledger_legs',
    sa.Column('txn_id', sa.BigInteger(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('ledger_account', sa.String(length=200), nullable=False),
    sa.Column('allocation_id', sa.String(length=200), nullable=False),
    sa.Column('ucr', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['txn_id'], ['ledger_txns.id'], name=op.f('fk_ledger_legs_txn_id')),
    sa.PrimaryKeyConstraint('txn_id', 'number', name=op.f('pk_ledger_legs'))
    )
    with op.batch_alter_table('ledger_legs', schema=None) as batch_op:
        batch_op.create_index('ix_ledger_legs_ledger_account', ['ledger_account'], unique=False)


def make_caches() -> None:
    """What can be made again from the entries."""
    op.create_table('credit_balances',
    sa.Column('ledger_account', sa.String(length=200), nullable=False),
    sa.Column('allocation_id', sa.String(length=200), nullable=False),
    sa.Column('ucr', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('ledger_account', 'allocation_id', name=op.f('pk_credit_balances'))
    )
    op.create_table('credit_runs',
    sa.Column('run', sa.String(length=128), nullable=False),
    sa.Column('what', sa.String(length=10), nullable=False),
    sa.Column('slot', sa.String(length=400), nullable=False),
    sa.Column('ucr', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('run', 'what', 'slot', name=op.f('pk_credit_runs'))
    )

def downgrade() -> None:
    """Go down."""
    op.drop_table('credit_runs')
    op.drop_table('credit_balances')
    op.drop_table('ledger_legs')
    op.drop_table('ledger_txns')
    op.drop_table('credit_meters')
    op.drop_table('credit_allocations')
    op.drop_table('credit_prices')
    if op.get_bind().dialect.name == 'postgresql':
        for table in APPEND_ONLY:
            op.execute(f'DROP FUNCTION {table}_refuse()')


def refusals(table: str, dialect: str) -> list[str]:
    """The statements that make a table refuse UPDATE and DELETE."""
    refusal = f'{table} is append-only'
    if dialect == 'sqlite':
        return [
            f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
            for verb in ('update', 'delete')
        ]
    return [
        f"CREATE FUNCTION {table}_refuse() RETURNS trigger AS $$ "
        f"BEGIN RAISE EXCEPTION '{refusal}'; END $$ LANGUAGE plpgsql",
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE "
        f"ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuse()",
    ]
