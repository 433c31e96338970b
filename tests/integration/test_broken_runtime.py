"""A node whose runtime is broken, a registry that is away: every job ends well."""

import pytest
import yaml

from tests.integration.dorad_process import Site, document

pytestmark = pytest.mark.integration

JOBS = 20


def test_a_broken_runtime_on_one_node_fails_no_job(site: Site) -> None:
    words = ("-c", "100m", "-i", "busybox", "--", "true")
    first = site.wait_ended(site.daemon.submit(*words), "done")
    (liked,) = {run["node"] for run in first["attempts"]}
    site.cluster.node(liked).break_runtime()
    try:
        refs = [site.daemon.submit(*words) for _ in range(JOBS)]
        records = [site.wait_ended(ref, "done") for ref in refs]
        ended_on = {record["attempts"][-1]["node"] for record in records}
        assert ended_on == set(site.cluster.nodes) - {liked}
        refused = [
            run
            for record in records
            for run in record["attempts"]
            if run["node"] == liked
        ]
        assert len(refused) >= 3
        assert all("OCI runtime create failed" in run["reason"] for run in refused)
        row = site.node(liked)
        assert row["state"] == "QUARANTINED"
        assert "runc did not terminate successfully" in row["reason"]
        late = site.daemon.submit("-N", liked, *words)
        site.wait_until(
            lambda: "refuses starts since" in site.daemon.ask("dstat", "--why", late),
            "the reason to wait",
        )
    finally:
        site.cluster.node(liked).mend_runtime()
    site.wait_ended(late, "done")
    site.wait_ready()
    assert site.node(liked)["refuses_starts_since"] is None
    site.check_clean()


def test_uncordon_opens_a_mended_node_at_once(site: Site) -> None:
    site.cluster.node("m2").break_runtime()
    words = ("-c", "100m", "-N", "m2", "-i", "busybox", "--", "true")
    try:
        refs = [site.daemon.submit(*words) for _ in range(3)]
        site.wait_until(
            lambda: site.node("m2")["state"] == "QUARANTINED",
            "the node to be put aside",
        )
    finally:
        site.cluster.node("m2").mend_runtime()
    site.daemon.ask("dnode", "uncordon", "m2")
    assert site.node("m2")["refuses_starts_since"] is None
    for ref in refs:
        site.wait_ended(ref, "done")
    site.check_clean()


def test_a_registry_that_is_away_for_a_while_fails_no_job(site: Site) -> None:
    image = {"image": site.cluster.registry_image, "pullPolicy": "Always"}
    site.cluster.stop_registry()
    try:
        names = [f"pull-{number}" for number in range(6)]
        for name in names:
            wanted = yaml.safe_load(document(name, cmd="true"))
            wanted["spec"]["image"] = image
            site.daemon.ask("dora", "apply", "-f", "-", stdin=yaml.safe_dump(wanted))
        silent = f"registry {site.cluster.registry} does not answer"
        for name in names:
            site.wait_until(
                lambda name=name: silent in site.daemon.ask("dstat", "--why", name),
                f"{name} to wait for the registry",
            )
    finally:
        site.cluster.start_registry()
    for name in names:
        record = site.wait_ended(name, "done")
        assert record["attempts"][-1]["outcome"] == "done"
    assert all(row["refuses_starts_since"] is None for row in site.daemon.nodes())
    site.check_clean()


def test_an_image_that_the_registry_has_not_is_final(site: Site) -> None:
    ref = site.daemon.submit(
        *("-c", "100m", "-i", f"{site.cluster.registry}/busybox:9", "--", "true")
    )
    record = site.wait_ended(ref, "failed")
    assert len(record["attempts"]) == 1
    assert "manifest unknown" in record["attempts"][0]["reason"]
    site.check_clean()
