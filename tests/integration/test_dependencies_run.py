"""Workloads that wait for others, on real parts: what ended well, and what did not.

Real daemon, commands, sshd and dockerd.
"""

import pytest

from tests.integration.dorad_process import Site

pytestmark = pytest.mark.integration

SMALL = ("-c", "100m", "-m", "16Mi", "-i", "busybox")


def submit(site: Site, name: str, script: str, waits_for: str = "") -> str:
    """Submit with dsub; the id."""
    waits = ("--dependency", waits_for) if waits_for else ()
    words = ("--name", name, *waits, *SMALL)
    return site.daemon.submit(*words, "--", "sh", "-c", script)


def why(site: Site, ref: str) -> str:
    return site.daemon.ask("dstat", "--why", ref)


def test_one_starts_after_success_and_one_after_a_failure(site: Site) -> None:
    first = submit(site, "first", "sleep 2; exit 3")
    good = submit(site, "good", "true", f"afterok:{first}")
    bad = submit(site, "bad", "true", "afternotok:first")
    chained = submit(site, "chained", "true", f"afterok:{bad},after:{first}")
    site.daemon.wait_for(first, state="running")
    site.wait_until(
        lambda: (
            f"waits for workload {first} (afterok; it is running)" in why(site, good)
        ),
        "the reason is told",
    )
    assert site.record(bad)["dependency"] == f"afternotok:{first}"

    # What is stored outlives the daemon, and what happens meanwhile is seen.
    site.daemon.kill()
    site.restart()
    assert site.wait_ended(first, "failed")["exit_code"] == 3
    after = site.wait_ended(bad, "done")
    assert after["started_at"] >= site.record(first)["ended_at"]
    last = site.wait_ended(chained, "done")
    assert last["started_at"] >= after["ended_at"]

    told = (
        f"can never start: workload {first} ended with exit code 3 and afterok asks "
        "for success"
    )
    site.wait_until(lambda: told in why(site, good), "that it is in vain is told")
    record = site.record(good)
    assert (record["state"], record["reason_code"]) == ("queued", "DependencyNever")
    assert "no forecast while it waits for what will never be" in why(site, good)
    site.daemon.ask("dcancel", good)
    site.check_clean()


def test_what_does_not_exist_is_refused(site: Site) -> None:
    options = {"image": "busybox", "dependency": "afterok:nosuch"}
    status, answer = site.request("POST", "/v1/workloads", {"options": options})
    assert status != 201
    assert "spec.dependency: afterok: no workload 'nosuch'" in str(answer)
