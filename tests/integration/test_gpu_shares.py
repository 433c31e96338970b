"""Shares of one GPU on real parts: two containers on a device, through a restart."""

import pytest

from tests.integration.dorad_process import Site

pytestmark = pytest.mark.integration

RTX = "Quadro RTX 6000"
SCRIPT = ("-i", "busybox", "--", "sh", "-c", "echo $DORA_GPU_SHARE; sleep 600")


def begin(site: Site, part: str) -> str:
    """Submit a share of the one RTX."""
    words = ("--gpu-share", part, "--gpu-model", RTX, "-c", "100m", "-m", "16Mi")
    return site.daemon.submit(*words, *SCRIPT)


def device_ids(site: Site, ref: str) -> list[str]:
    """What Docker was asked to give."""
    requests = site.inspect(ref)["HostConfig"]["DeviceRequests"]
    found: list[str] = requests[0]["DeviceIDs"]
    return found


def given(site: Site) -> int:
    """Thousandths of the RTX that are given away."""
    return next(g["held_milli"] for g in site.node("m1")["gpus"] if g["model"] == RTX)


def test_two_containers_share_a_device_and_a_third_waits(site: Site) -> None:
    first, second = begin(site, "0.5"), begin(site, "0.25")
    for ref in (first, second):
        site.daemon.wait_for(ref, state="running")
    (rtx,) = [g.uuid for g in site.cluster.nodes["m1"].gpus if g.model == RTX]
    assert device_ids(site, first) == device_ids(site, second) == [rtx]
    site.wait_until(lambda: site.daemon.ask("dlog", first) == "0.5\n", "its share")
    assert given(site) == 750
    third = begin(site, "0.3")
    site.wait_until(
        lambda: "none has that much of one GPU free" in site.daemon.ask(
            "dstat", "--why", third
        ),
        "the third is told why",
    )  # fmt: skip

    site.daemon.kill()
    site.restart()
    assert given(site) == 750
    assert site.daemon.rows(third)[0]["state"] == "queued"

    site.daemon.ask("dcancel", second)
    site.daemon.wait_for(third, state="running")
    assert device_ids(site, third) == [rtx]
    assert given(site) == 800


def test_a_whole_gpu_waits_for_the_last_share(site: Site) -> None:
    part = begin(site, "0.001")
    site.daemon.wait_for(part, state="running")
    whole = site.daemon.submit("-G", "1", "--gpu-model", RTX, *SCRIPT)
    site.wait_until(
        lambda: "none has 1 free now" in site.daemon.ask("dstat", "--why", whole),
        "the whole one waits",
    )
    site.daemon.ask("dcancel", part)
    site.daemon.wait_for(whole, state="running")
    assert given(site) == 1000


def test_the_warning_says_that_nothing_is_isolated(site: Site) -> None:
    words = ("--gpu-share", "0.5", "-c", "100m", "-m", "16Mi")
    done = site.daemon.run("dsub", *words, "-i", "busybox", "--", "true")
    assert done.returncode == 0
    assert "shares of a GPU are not isolated" in done.stderr
