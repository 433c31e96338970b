"""`dreport`: statements, charge-back, usage, fairness, forecasts and audit of a period.

Prints, writes or mails what the daemon adds up and lays out. Never computes anything
itself, and leaves no half-written file behind.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from dorabatch.cmds.answers import read_record
from dorabatch.cmds.client import Query, quote, send
from dorabatch.cmds.helptext import Documented
from dorabatch.cmds.jsontext import encode_json
from dorabatch.cmds.terminal import say, stream_out
from dorabatch.errors import ConflictError, UserError

NAMES = (
    "statement", "chargeback", "usage", "fairness", "forecast", "accuracy", "audit",
)  # fmt: skip
FORMS = ("table", "csv", "json", "html")
PERIOD = ("since", "from", "to", "week")
_QUIET_SECONDS = 1.0


@click.command(
    cls=Documented,
    help="Report on a period: credits, use, fairness, forecasts, who changed what.",
    examples=(
        ("Your own statement of the last seven days", "dreport statement"),
        ("Last week of everybody (admin)", "dreport statement --week last"),
        ("January by account and model, for a spreadsheet",
         "dreport chargeback --from 2026-01-01 --to 2026-02-01 --format csv"),
        ("A page with charts", "dreport usage --format html --out use.html"),
        ("Who got what of their share, and waited how long", "dreport fairness"),
        ("When does the credit end?", "dreport forecast"),
        ("Were the forecast starts right?", "dreport accuracy --since 4w"),
        ("Who changed weights, prices, credits", "dreport audit --since 30d --json"),
        ("Mail each user their own statement, once",
         "dreport statement --week last --mail each"),
    ),
    notes=(
        "Users see their own, admins everything; --account narrows it to one. A date"
        " means its beginning in the site's time zone, and --to is not part of the"
        " period. Without a period it is the last seven days.\n"
        "statement: opening, deposits, charges, refunds, expiry, closing; the sums are"
        " checked against the ledger and the head of its chain is named. chargeback: by"
        " account, workspace and model. usage: GPU hours by user, model and day, and"
        " how much was in use. fairness: delivered against promised, and waits."
        " forecast: the date on which credit ends, as dcredit forecast says it."
        " accuracy: starts inside their forecast range. audit: who changed which node,"
        " user, workspace, price or setting from what to what, and grants, refunds.\n"
        "CSV and JSON hold micro-credits as whole numbers (NAME_ucr) beside credits.\n"
        "A report that was mailed to somebody for a period is not mailed again."
    ),
)  # fmt: skip
@click.argument("name", metavar="REPORT", type=click.Choice(NAMES))
@click.option("--since", metavar="SPAN", help="The last SPAN: 12h, 7d, 4w.")
@click.option("--from", "from_", metavar="DATE", help="From this date or moment on.")
@click.option(
    "--to", metavar="DATE", help="Up to this date or moment; now if left out."
)
@click.option("--week", metavar="WEEK", help="A week of credits: last or this.")
@click.option("--account", metavar="NAME", help="Of this user or account only.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMS),
    default="table",
    show_default=True,
    help="How it is written.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--out", metavar="FILE", help="Write to this file instead.")
@click.option(
    "--mail",
    "to_mail",
    metavar="ADDRESS",
    help="Mail it; the word each: to each user their own statement (admin).",
)
@click.option("--quiet", is_flag=True, help="With --mail: say nothing when it is done.")
@click.option(
    "--lock", metavar="FILE", help="Refuse to run while another holds this file."
)  # fmt: skip
def dreport(
    name: str,
    form: str,
    out: str | None,
    lock: str | None,
    **said: str | bool | None,
) -> int:
    """Ask the daemon, and bring the answer where it is wanted."""
    with only_one(lock), patience():
        period = _period(said)
        if said["to_mail"] is not None:
            return _mail(
                name, period, str(said["to_mail"]), is_quiet=bool(said["quiet"])
            )
        if said["quiet"]:
            raise UserError(
                "--quiet goes with --mail: a report that is not said is none"
            )
        query: Query = [*period, ("format", "json" if said["as_json"] else form)]
        answer = send("GET", f"/v1/reports/{quote(name)}", query, seconds_max=None)
        if out is None:
            stream_out(answer.body())
        else:
            write_whole(Path(out), answer.read())
    return 0


def _period(said: dict[str, str | bool | None]) -> Query:
    named = {**said, "from": said["from_"]}
    keys = (*PERIOD, "account")
    given = [(key, str(named[key])) for key in keys if named[key] is not None]
    for key, text in given:
        if not text.strip():
            raise UserError(f"--{key} is empty; give a value, or leave it out")
    return given


def _mail(name: str, period: Query, to_mail: str, *, is_quiet: bool) -> int:
    body = encode_json({**dict(period), "to_mail": to_mail})
    path = f"/v1/reports/{quote(name)}/mail"
    record = read_record(send("POST", path, body=body, seconds_max=None))
    if not is_quiet:
        say(f"{name}: {record['message']}")
    return 0


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file at once, or leave it as it was."""
    if not path.name:
        raise UserError("--out is empty or a folder; give the name of a file")
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        raise UserError(f"--out {path}: {error.strerror}") from error
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def only_one(lock: str | None) -> Iterator[None]:
    """Hold the lock file, or refuse."""
    if lock is None:
        yield
        return
    try:
        handle = open(lock, "a")  # noqa: SIM115  # closed below, on every way out
    except OSError as error:
        raise UserError(f"--lock {lock}: {error.strerror}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConflictError(
                f"--lock {lock}: another dreport is at it; look again when it has ended"
            ) from error
        yield


@contextmanager
def patience() -> Iterator[None]:
    """On a terminal, say that the daemon still adds up, once a second."""
    if not os.isatty(2):
        yield
        return
    done = threading.Event()

    def tell() -> None:
        began = time.monotonic()
        while not done.wait(_QUIET_SECONDS):
            seconds = time.monotonic() - began
            os.write(2, f"\rdreport: the daemon adds up ... {seconds:.0f} s".encode())

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
        os.write(2, b"\r\x1b[K")
