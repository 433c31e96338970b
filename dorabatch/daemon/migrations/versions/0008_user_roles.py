"""Roles of users: an empty list was stored for everybody and now means no right.

Revision 0008. Never changed once released: a later revision builds on it.
"""

import json

import sqlalchemy as sa
from alembic import op


revision = '0008'
down_revision = '0007'

_OBJECTS = sa.table(
    'objects',
    sa.column('kind', sa.String),
    sa.column('name', sa.String),
    sa.column('spec', sa.Text),
)


def upgrade() -> None:
    """Go up: who was declared before roles were served has the default role."""
    for name, spec in _users():
        if spec.pop('resources', None) is not None:
            _save(name, spec)


def downgrade() -> None:
    """Go down: roles are left out, as they were."""
    for name, spec in _users():
        _save(name, {**spec, 'resources': []})


def _users() -> list[tuple[str, dict[str, object]]]:
    wanted = sa.select(_OBJECTS.c.name, _OBJECTS.c.spec).where(_OBJECTS.c.kind == 'User')
    return [(row.name, json.loads(row.spec)) for row in op.get_bind().execute(wanted)]


def _save(name: str, spec: dict[str, object]) -> None:
    op.get_bind().execute(
        sa.update(_OBJECTS)
        .where(_OBJECTS.c.kind == 'User', _OBJECTS.c.name == name)
        .values(spec=json.dumps(spec))
    )
