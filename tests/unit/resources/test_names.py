"""Names, images, hosts and paths: what passes and what must not."""

import pytest

from dorabatch.resources import names

PASS = [
    (names.check_name, "a"),
    (names.check_name, "amedeo.setti"),
    (names.check_name, "dora.storage.01"),
    (names.check_name, "dc-rov-01"),
    (names.check_name, "a_b"),
    (names.check_name, "x" * 63),
    (names.check_name, "first"),
    (names.check_name, "docker"),
    (names.check_workload_name, "1a"),
    (names.check_name_or_all, "All"),
    (names.check_name_or_all, "z1"),
    (names.check_model, "Tesla V100-SXM2-16GB"),
    (names.check_model, "NVIDIA A100-SXM4-40GB MIG 1g.5gb"),
    (names.check_model, "Intel(R) Xeon(R) CPU E5-2690 v4 @ 2.60GHz"),
    (names.check_image, "ubuntu"),
    (names.check_image, "library/ubuntu:22.04"),
    (names.check_image, "localhost/a"),
    (names.check_image, "localhost:5000/a/b_c/d-e:V1.0_x"),
    (names.check_image, "10.0.0.1:5000/a"),
    (names.check_image, "nvcr.io/nvidia/pytorch:24.01-py3"),
    (names.check_env_name, "PATH"),
    (names.check_env_name, "_x1"),
    (names.check_env_name, "CUDA_VISIBLE_DEVICES"),
    (names.check_host, "10.10.10.2"),
    (names.check_host, "Node1.site"),
    (names.check_host, "fd00::1"),
    (names.check_login, "root"),
    (names.check_host_key, "SHA256:" + "A" * 43),
    (names.check_path, "/"),
    (names.check_path, "/a.b/c-d_e/@f"),
    (names.check_target, "/home"),
    (names.check_target, "/devices"),
    (names.check_text, "any text\nwith ünicode"),
]
STOP = [
    *[
        (names.check_name, bad)
        for bad in (
            "",
            "A",
            "All",
            "all",
            "Any",
            "none",
            "Never",
            "null",
            "-a",
            "a-",
            ".a",
            "a.",
            "_a",
            "a..b",
            "../a",
            "a/b",
            "a b",
            "a\n",
            "a;b",
            "$(id)",
            "ä",
            "a\0",
            "x" * 64,
            7,
            True,
            None,
            ["a"],
        )
    ],
    (names.check_workload_name, "12"),
    (names.check_workload_name, "0"),
    (names.check_name_or_all, "all"),
    (names.check_name_or_all, "Any"),
    *[
        (names.check_model, bad)
        for bad in ("", "All", " T4", "T4 ", "-T4", "a/b", "T4;x", "T4\n", "x" * 101)
    ],
    *[
        (names.check_image, bad)
        for bad in (
            "",
            "Ubuntu",
            "-v",
            "--privileged",
            "-o.com/a",
            "a b",
            "a:",
            ":a",
            "a@sha256:12",
            "a/../b",
            "/a",
            "a/",
            "a//b",
            "a:-x",
            "a\n",
            "http://a/b",
            "a" * 513,
            "a;b",
            "$(id)",
        )
    ],
    *[
        (names.check_env_name, bad)
        for bad in ("", "1a", "a-b", "a b", "a=b", "A\n", "NVIDIA_VISIBLE_DEVICES")
    ],
    *[
        (names.check_host, bad)
        for bad in (
            "",
            "-oProxyCommand=id",
            "-a",
            "a b",
            "a/b",
            "a..b",
            "a.",
            "a,b",
            "a@b",
            "a\n",
            "[fd00::1",
            "::x",
            "x" * 64,
            "a." * 130 + "a",
        )
    ],
    *[(names.check_login, bad) for bad in ("", "-x", "Root", "a b", "a" * 33, "a@b")],
    *[(names.check_host_key, bad) for bad in ("", "SHA256:", "MD5:aa:bb")],
    *[
        (names.check_path, bad)
        for bad in (
            "",
            "a",
            "/a/../b",
            "/..",
            "/./a",
            "/a b",
            "/a;b",
            "/a:b",
            "/a,b",
            "/$(id)",
            "/a\n",
            "/a'b",
            "/" + "a" * 1024,
        )
    ],
    *[
        (names.check_target, bad)
        for bad in ("/", "//", "/proc", "/proc/1", "/sys/", "//dev", "/dev/shm", "home")
    ],
    *[
        (names.check_text, bad)
        for bad in ("a\0b", "\ud800", 1, None, "x" * 131_072, "ü" * 65_536)
    ],
]


@pytest.mark.parametrize(("check", "value"), PASS)
def test_passes(check, value):
    assert check(value) == value


@pytest.mark.parametrize(("check", "value"), STOP)
def test_stops_with_a_sentence(check, value):
    with pytest.raises(ValueError) as caught:
        check(value)
    sentence = str(caught.value)
    assert 10 < len(sentence) < 300
    assert sentence.isprintable()


def test_paths_and_addresses_are_normalised():
    assert names.check_path("//a//b/") == "/a/b"
    assert names.check_host("[FD00::0001]") == "fd00::1"


@pytest.mark.mission("M33")
def test_every_constant_is_reserved():
    for word in names.CONSTANTS:
        with pytest.raises(ValueError, match="reserved word"):
            names.check_name(word)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "nothing (null)"),
        (True, "true"),
        (2, "the number 2"),
        ({}, "a mapping"),
        ((), "a list"),
        ("a\x1b", "the text 'a\\x1b'"),
    ],
)
def test_show(value, shown):
    assert names.show(value) == shown


def test_long_text_is_cut():
    assert len(names.quoted("x" * 1000)) == 62
