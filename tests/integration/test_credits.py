"""Credit on real parts: no kill charges twice or loses anything, and the limit stops.

The daemon is killed with SIGKILL between and inside the writes of credit.
"""

import json
import signal
from datetime import datetime, timedelta
from typing import Any

import pytest

from dorabatch.daemon.steps import CREDIT_STEPS, Step
from tests.integration.dorad_process import CRASH_VARIABLE, Site

pytestmark = pytest.mark.integration

CRASHED = -signal.SIGKILL
PRICE = """
apiVersion: v1
kind: Resourcecredit
metadata:
  name: Tesla V100-SXM2-16GB
spec:
  credit:
    per:
      hour: 3600
---
apiVersion: v1
kind: User
metadata:
  name: root
"""
QUICK = {
    "DORABATCH_CREDITS__TICK_SECONDS": "0.5",
    "DORABATCH_CREDITS__OPEN_ENDED_SECONDS": "2",
    "DORABATCH_CREDITS__GRACE_SECONDS": "2",
}
MICROSECOND = timedelta(microseconds=1)
BILLED = ("-G", "1", "--gpu-model", "Tesla V100-SXM2-16GB", "-i", "busybox")


def restart(site: Site, **environment: str) -> None:
    """Start the daemon again with a price of 1 credit a second and quick ticks."""
    if site.is_up():
        site.daemon.stop()
    site.restart(**QUICK, **environment)
    site.daemon.ask("dora", "apply", "-f", "-", stdin=PRICE)


def balance(site: Site) -> dict[str, Any]:
    """Root's account."""
    found: dict[str, Any] = json.loads(
        site.daemon.ask("dcredit", "balance", "root", "--json")
    )
    return found


def cost(record: dict[str, Any]) -> int:
    """What the attempts of a workload cost at 1 credit a second, in micro-credits."""
    total = 0
    for run in record["attempts"]:
        start, end = (
            datetime.fromisoformat(run[k]) for k in ("started_at", "ended_at")
        )
        total += (end - start) // MICROSECOND
    return total


@pytest.mark.parametrize(
    "step",
    [
        Step.PLACE_COMMITTED,
        Step.START_RECORDED,
        *CREDIT_STEPS,
        Step.END_RECORDED,
        Step.REMOVED,
        Step.END_CONFIRMED,
    ],
)
def test_a_kill_charges_nothing_twice_and_loses_nothing(site: Site, step: Step) -> None:
    restart(site)
    site.daemon.ask("dcredit", "grant", "root", "1000", "--reason", "test")
    before = balance(site)
    restart(site, **{CRASH_VARIABLE: step})
    submitting = site.begin(
        "dsub", "--parsable", "-t", "60s", *BILLED, "--", "sleep", "2"
    )
    assert site.daemon.wait_for_exit() == CRASHED
    restart(site)

    printed, complaint = submitting.communicate(timeout=60)
    assert submitting.returncode == 0, complaint
    record = site.wait_ended(printed.strip(), "done")
    after = balance(site)
    assert round((after["used"] - before["used"]) * 1e6) == cost(record)
    assert round((before["available"] - after["available"]) * 1e6) == cost(record)
    assert after["held"] == 0
    assert "are right" in site.daemon.ask("dcredit", "check")


@pytest.mark.mission("M85")
def test_at_the_end_of_credit_work_stops_and_goes_on_with_new_credit(
    site: Site,
) -> None:
    restart(site)
    site.daemon.ask("dcredit", "expire", "root", "--reason", "clean")
    site.daemon.ask("dcredit", "grant", "root", "5", "--reason", "test")
    before = balance(site)
    assert before["available"] == 5
    ref = site.daemon.submit(*BILLED, "--", "sleep", "600")
    site.daemon.wait_for(ref, state="running")
    shown = site.record(ref)["paid_until"]
    assert shown is not None
    site.daemon.wait_for(ref, state="queued")
    site.wait_until(lambda: site.held_runs() == 0, "the container to be gone")

    record, after = site.record(ref), balance(site)
    assert "out of credit" in record["reason"]
    # Not a microsecond more than there was.
    assert after["available"] + after["held"] == pytest.approx(0, abs=1.1e-6)
    assert after["used"] - before["used"] == pytest.approx(5, abs=1.1e-6)
    texts = [e["text"] for e in record["events"] if e["kind"] == "credit"]
    assert any("pays until" in text for text in texts)

    site.daemon.ask("dcredit", "grant", "root", "100", "--reason", "more")
    site.daemon.wait_for(ref, state="running")
    assert len(site.record(ref)["attempts"]) == 2
    assert "are right" in site.daemon.ask("dcredit", "check")
