"""Databases on which the store must behave the same."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from dorabatch.daemon.schema import migrate
from dorabatch.db import open_engine

BACKENDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)]


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """A database with all tables."""
    migrate(url)
    made = open_engine(url)
    yield made
    made.dispose()
