"""SQLAlchemy Core tables of workloads, containers, attempts, events and kinds.

Only the shape of what is stored; no statement is here.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)

from dorabatch.units import microseconds_of, moment_of

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Moment(TypeDecorator[datetime]):
    """An aware UTC datetime, stored as whole microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return None if value is None else microseconds_of(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else moment_of(value)


IDS = Table(
    "ids",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("next_id", BigInteger, nullable=False),
)

DAEMONS = Table(
    "daemons",
    METADATA,
    Column("zone", String(63), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("cluster_id", String(32), nullable=False),
    Column("started_at", Moment, nullable=False),
)

OBJECTS = Table(
    "objects",
    METADATA,
    Column("kind", String(32), primary_key=True),
    Column("zone", String(63), primary_key=True),
    Column("workspace", String(63), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("spec", Text, nullable=False),
    Column("owner", String(64), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("changed_at", Moment, nullable=False),
)

NODE_FACTS = Table(
    "node_facts",
    METADATA,
    Column("zone", String(63), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("facts", Text, nullable=False),
    Column("seen_at", Moment, nullable=False),
    Column("lost_at", Moment),
    Column("lost_by", String(64)),
)
"""What is known of each node over a restart; `lost_*` while it is kept out of use."""

NODE_REFUSALS = Table(
    "node_refusals",
    METADATA,
    Column("zone", String(63), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("since", Moment, nullable=False),
    Column("reason", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("try_at", Moment, nullable=False),
    Column("with_gpus", Boolean, nullable=False),
)
"""Nodes that refuse starts and take nothing new until a start succeeds there."""

WORKLOADS = Table(
    "workloads",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("zone", String(63), nullable=False),
    Column("workspace", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("user", String(64), nullable=False),
    Column("uid", BigInteger, nullable=False),
    Column("gid", BigInteger, nullable=False),
    Column("groups", JSON, nullable=False),
    Column("spec", Text, nullable=False),
    Column("spec_digest", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("replicas", Integer, nullable=False),
    Column("submission_key", String(64), unique=True),
    Column("submitted_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("held_by", String(64)),
    Column("held_reason", Text),
    Column("dependency", Text, nullable=False, server_default=text("''")),
    Index("ix_workloads_zone_ended_at", "zone", "ended_at"),
    Index("ix_workloads_user", "user"),
)

LIVE_NAMES = Index(
    "uq_workloads_live_name",
    WORKLOADS.c.zone,
    WORKLOADS.c.workspace,
    WORKLOADS.c.name,
    unique=True,
    sqlite_where=text("ended_at IS NULL"),
    postgresql_where=text("ended_at IS NULL"),
)

VERSIONS = Table(
    "versions",
    METADATA,
    Column("workload_id", ForeignKey("workloads.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("spec", Text, nullable=False),
    Column("at", Moment, nullable=False),
    Column("user", String(64), nullable=False),
)

CONTAINERS = Table(
    "containers",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("workload_id", ForeignKey("workloads.id"), nullable=False),
    Column("replica", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("rev", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("queued_at", Moment, nullable=False),
    Column("ready_at", Moment),
    Column("hold", JSON(none_as_null=True)),
    Column("docker_id", String(80)),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    Column("exit_code", Integer),
    Column("outcome", String(20)),
    Column("reason", Text, nullable=False),
    Column("after_stop", String(10)),
    Column("fast_failures", Integer, nullable=False),
    Column("lost_requeues", Integer, nullable=False, server_default=text("0")),
    Column("removed", Boolean, nullable=False),
    Column("trial_seconds", Integer),
    Column("trial_stops", Integer, nullable=False, server_default=text("0")),
    Column("tried", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("workload_id", "replica"),
    Index("ix_containers_state", "state"),
)

RUNS = Table(
    "runs",
    METADATA,
    Column("container_id", ForeignKey("containers.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("node", String(63), nullable=False),
    Column("hold", JSON, nullable=False),
    Column("placed_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    Column("exit_code", Integer),
    Column("outcome", String(20)),
    Column("reason", Text, nullable=False),
    Index("ix_runs_node", "node"),
)

EVENTS = Table(
    "events",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("workload_id", ForeignKey("workloads.id"), nullable=False),
    Column("at", Moment, nullable=False),
    Column("replica", Integer),
    Column("kind", String(20), nullable=False),
    Column("text", Text, nullable=False),
    Index("ix_events_workload_id", "workload_id"),
)

MAILS = Table(
    "mails",
    METADATA,
    Column("key", String(200), primary_key=True),
    Column("address", String(320), nullable=False),
    Column("subject", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("html", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Moment),
    Column("sent_at", Moment),
    Column("problem", Text, nullable=False),
    Index("ix_mails_due_at", "due_at"),
)
"""Mails to be sent: `due_at` is empty once one is sent or given up."""
