"""The schema goes up, down and up again with data in it, and equals the tables."""

import json
from dataclasses import replace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from dorabatch.config import MailSettings
from dorabatch.daemon.schema import migrate, require_current
from dorabatch.daemon.state import object_store
from dorabatch.daemon.state.node_view import Loss, Refusal
from dorabatch.daemon.state.outbox import Letter, Outbox
from dorabatch.db import open_engine, transaction
from dorabatch.errors import ConfigError
from dorabatch.fairshare.money.book import Allocation, Posting
from dorabatch.fairshare.store import ledger, share_store, share_tables
from dorabatch.fairshare.store import ledger_tables as credit_tables
from dorabatch.fairshare.turn.account_tree import Account
from dorabatch.fairshare.turn.changes import Change
from dorabatch.queue import store
from dorabatch.queue import transitions as to
from dorabatch.queue.daemons import take_over
from dorabatch.queue.records import StartHold, WorkloadId
from dorabatch.queue.tables import METADATA, WORKLOADS
from tests.makers import START, ZONE, hold, new_workload

HEAD = "0010"
TABLES = [METADATA, share_tables.METADATA]
REFUSAL = Refusal(since=START, reason="no", tries=1, try_at=START, with_gpus=True)


def fill(url: str) -> None:
    """At least one row in every table."""
    engine = open_engine(url)
    take_over(engine, ZONE, START)
    with transaction(engine) as tx:
        first = store.take_ids(tx, "workload", 2)
        new = [new_workload("a", replicas=2), new_workload("b")]
        store.insert_workloads(tx, new, first)
        (one, _) = store.containers_of(tx, first)
        placed = to.placed(one, hold(), 1)
        store.save_containers(tx, [(one, placed)])
        store.insert_runs(tx, [to.new_run(placed, START)])
        object_store.save_facts(tx, ZONE, "n1", "{}", START)
        object_store.save_refusal(tx, ZONE, "n1", REFUSAL)
        values = {"kind": "Zone", "zone": "", "workspace": "", "name": "z"}
        moments = {"created_at": START, "changed_at": START}
        tx.connection.execute(
            insert(METADATA.tables["objects"]).values(
                **values, **moments, spec="{}", owner="root"
            )
        )
        fill_credits(tx.connection)
        outbox = Outbox(MailSettings(host="relay"))
        letter = Letter(to="ana@example.org", subject="s", text="t")
        assert outbox.enqueue(tx, "k", letter, now=START)
        fill_shares(tx.connection)
    with engine.connect() as connection:
        for metadata in TABLES:
            for table in metadata.sorted_tables:
                found = connection.execute(select(table)).first()
                assert found is not None, table.name
    engine.dispose()


def fill_credits(connection: Connection) -> None:
    """A price, a meter, a grant and a charge."""
    price = {"zone": ZONE, "model": "V100", "valid_from": 0, "version": 1}
    connection.execute(
        insert(credit_tables.PRICES).values(**price, per_hour_ucr=1, actor="root")
    )
    connection.execute(
        insert(credit_tables.METERS).values(
            run="1.1/1", number=0, at=0, terms="{}", reason=""
        )
    )
    ledger.open_allocations(connection, [Allocation(id="a", zone=ZONE, account="ana")])
    common = {"at": 1, "zone": ZONE, "chain": ("ana",), "amount": 5}
    ledger.post(
        connection,
        [
            Posting(kind="deposit", key="d", allocation_id="a", **common),
            Posting(kind="charge", key="c", run="1.1/1", model="V100", **common),
        ],
    )


def fill_shares(connection: Connection) -> None:
    share_store.save_shares(connection, ZONE, [Account(name="physics", shares=3)])
    setting = share_store.StoredSetting(value="1d", is_set=True)
    share_store.save_settings(connection, ZONE, {"half_life": setting})
    change = Change(at=1, actor="root", key="half_life", old="7d", new="1d")
    share_store.add_changes(connection, ZONE, [change])
    row = share_store.UsageRow(name="ana", used=0.1, at=1, is_active=True)
    share_store.save_usage(connection, ZONE, row)
    raised = share_store.Raise(name="ana", at=1, amount=0.25)
    share_store.add_raise(connection, ZONE, raised)
    forecast = share_store.StartForecast(workload_id=1, made_at=1, low=2, high=3)
    share_store.add_forecasts(connection, ZONE, [forecast], kept_max=9)


def test_up_down_up_with_data(url: str) -> None:
    assert migrate(url).startswith(HEAD)
    fill(url)
    assert migrate(url, "base") == "base"
    engine = open_engine(url)
    left = set(inspect(engine).get_table_names())
    assert left <= {"alembic_version"}
    assert migrate(url).startswith(HEAD)
    with engine.connect() as connection:
        assert connection.execute(select(WORKLOADS)).first() is None
    engine.dispose()
    fill(url)


def test_what_ran_before_there_were_trials_is_an_ordinary_run(url: str) -> None:
    migrate(url)
    fill(url)
    assert migrate(url, "0004") == "0004"
    engine = open_engine(url)
    names = {column["name"] for column in inspect(engine).get_columns("containers")}
    assert "removed" in names
    assert not names & {"trial_seconds", "trial_stops", "tried"}
    migrate(url)
    with transaction(engine) as tx:
        found = store.containers_of(tx, WorkloadId(1))
        assert [(c.trial_seconds, c.trial_stops, c.tried) for c in found] == [
            (None, 0, False)
        ] * 2
        assert [c.hold for c in found] == [hold(), None]
        on_trial = replace(found[0], rev=found[0].rev + 1, trial_seconds=300)
        store.save_containers(tx, [(found[0], on_trial)])
        assert store.containers_of(tx, WorkloadId(1))[0] == on_trial
    # Down again, what is on trial goes on; nothing else is lost.
    migrate(url, "0004")
    migrate(url)
    with transaction(engine) as tx:
        (one, _) = store.containers_of(tx, WorkloadId(1))
        assert one == replace(on_trial, trial_seconds=None)
    engine.dispose()


def test_what_was_stored_before_there_were_holds_is_not_held(url: str) -> None:
    migrate(url)
    fill(url)
    assert migrate(url, "0005") == "0005"
    engine = open_engine(url)
    names = {column["name"] for column in inspect(engine).get_columns("workloads")}
    assert "ended_at" in names
    assert not names & {"held_by", "held_reason"}
    migrate(url)
    with transaction(engine) as tx:
        found = store.get_workload(tx, WorkloadId(1))
        assert found is not None and found.start_hold is None
        for wanted in (StartHold(by="ana", reason="data first"), StartHold(by="ana")):
            held = replace(found, start_hold=wanted)
            store.save_workload(tx, held)
            assert store.get_workload(tx, WorkloadId(1)) == held
    # Down again, what is held may start; nothing else is lost.
    migrate(url, "0005")
    migrate(url)
    with transaction(engine) as tx:
        assert store.get_workload(tx, WorkloadId(1)) == found
    engine.dispose()


def test_what_was_stored_before_there_were_dependencies_waits_for_none(
    url: str,
) -> None:
    migrate(url)
    fill(url)
    assert migrate(url, "0006") == "0006"
    engine = open_engine(url)
    names = {column["name"] for column in inspect(engine).get_columns("workloads")}
    assert "held_by" in names and "dependency" not in names
    migrate(url)
    with transaction(engine) as tx:
        found = store.get_workload(tx, WorkloadId(2))
        assert found is not None and found.dependency == ""
        waits = replace(found, dependency="afterok:1")
        store.save_workload(tx, waits)
        assert store.get_workload(tx, WorkloadId(2)) == waits
    # Down again, what waits for others may start; nothing else is lost.
    migrate(url, "0006")
    migrate(url)
    with transaction(engine) as tx:
        assert store.get_workload(tx, WorkloadId(2)) == found
    engine.dispose()


def test_the_newest_revision_equals_the_tables(url: str) -> None:
    migrate(url)
    engine = open_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, TABLES) == []
    engine.dispose()


def test_going_up_twice_changes_nothing(url: str) -> None:
    migrate(url)
    fill(url)
    migrate(url)
    engine = open_engine(url)
    with engine.connect() as connection:
        assert len(connection.execute(select(WORKLOADS)).all()) == 2
    engine.dispose()


def test_an_unknown_revision_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="migrate --to 'nonsense'"):
        migrate(url, "nonsense")


def test_an_empty_database_is_set_up_and_another_revision_refused(url: str) -> None:
    engine = open_engine(url)
    require_current(engine, url)
    require_current(engine, url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(ConfigError, match=r"revision 0000, this dorad needs .*migrate"):
        require_current(engine, url)
    engine.dispose()


APPEND_ONLY = (
    "credit_prices",
    "credit_allocations",
    "credit_meters",
    "ledger_txns",
    "ledger_legs",
)


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_what_was_posted_cannot_be_changed_or_deleted(url: str, table: str) -> None:
    migrate(url)
    fill(url)
    engine = open_engine(url)
    column = next(iter(credit_tables.METADATA.tables[table].columns)).name
    for statement in (
        f"DELETE FROM {table}",
        f"UPDATE {table} SET {column} = {column}",
    ):
        refusal = pytest.raises(DBAPIError, match=f"{table} is append-only")
        with refusal, engine.begin() as connection:
            connection.execute(text(statement))
    engine.dispose()


def test_who_was_declared_before_roles_were_served_keeps_the_default(url: str) -> None:
    migrate(url, "0007")
    engine = open_engine(url)
    moments = {"created_at": START, "changed_at": START}
    where = {"kind": "User", "zone": "", "workspace": "", "owner": "root"}
    objects = METADATA.tables["objects"]
    with transaction(engine) as tx:
        for name, spec in (("ana", '{"resources":[],"mail":"a@b"}'), ("bob", "{}")):
            row = {**where, **moments, "name": name, "spec": spec}
            tx.connection.execute(insert(objects).values(row))
    migrate(url)
    assert specs(engine) == {"ana": {"mail": "a@b"}, "bob": {}}
    grant = {"kind": "All", "zone": "All", "account": "lab1", "role": "head"}
    with transaction(engine) as tx:
        told = json.dumps({"resources": [grant]})
        changed = update(objects).where(objects.c.name == "bob").values(spec=told)
        tx.connection.execute(changed)
    migrate(url, "0007")
    assert specs(engine) == {
        "ana": {"mail": "a@b", "resources": []},
        "bob": {"resources": []},
    }
    migrate(url)
    assert specs(engine) == {"ana": {"mail": "a@b"}, "bob": {}}
    engine.dispose()


def test_a_lost_node_is_an_ordinary_one_below_its_revision(url: str) -> None:
    migrate(url)
    engine = open_engine(url)
    with transaction(engine) as tx:
        object_store.save_facts(tx, ZONE, "n1", "{}", START)
        object_store.save_loss(tx, ZONE, "n1", Loss(by="root", at=START))
    migrate(url, "0009")
    facts = METADATA.tables["node_facts"]
    with engine.connect() as connection:
        kept = connection.execute(select(facts.c.facts, facts.c.seen_at)).one()
    assert tuple(kept) == ("{}", START)
    migrate(url)
    with engine.connect() as connection:
        assert object_store.load_facts(connection, ZONE)["n1"].lost is None
    engine.dispose()


def specs(engine: Engine) -> dict[str, object]:
    """What is stored of each user."""
    with engine.connect() as connection:
        stored = object_store.list_objects(connection, "User")
    return {one.name: json.loads(one.spec) for one in stored}


def test_refused_starts_count_anew_and_no_node_refuses_yet(url: str) -> None:
    migrate(url)
    fill(url)
    engine = open_engine(url)
    with engine.connect() as connection:
        assert object_store.load_refusals(connection, ZONE) == {"n1": REFUSAL}
    with transaction(engine) as tx:
        one = store.containers_of(tx, WorkloadId(1))[0]
        lost = replace(one, rev=one.rev + 1, lost_requeues=3)
        store.save_containers(tx, [(one, lost)])
        assert store.containers_of(tx, WorkloadId(1))[0] == lost
    assert migrate(url, "0008") == "0008"
    names = {column["name"] for column in inspect(engine).get_columns("containers")}
    assert "start_failures" in names and "lost_requeues" not in names
    with engine.begin() as connection:
        connection.execute(text("UPDATE containers SET start_failures = 2"))
    migrate(url)
    with transaction(engine) as tx:
        assert store.containers_of(tx, WorkloadId(1))[0] == replace(
            lost, lost_requeues=0
        )
        assert object_store.load_refusals(tx.connection, ZONE) == {}
        object_store.save_refusal(tx, ZONE, "n1", REFUSAL)
        object_store.forget_facts(tx, ZONE, "n1")
        assert object_store.load_refusals(tx.connection, ZONE) == {}
    engine.dispose()
