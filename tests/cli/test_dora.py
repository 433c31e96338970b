"""dora and dnode as users run them."""

import json

import pytest

from .peer import FINGERPRINT

NODE = "kind: Node\nmetadata: {name: gpu01}\n"
OTHER = "SHA256:" + "b" * 43
LIST = "NAME   STATE\ngpu01  ready\n"


@pytest.mark.mission("M87")
def test_apply_says_what_became_of_each_document(peer):
    (peer.home / "a.yaml").write_text("kind: Zone\n")
    assert peer.run("dora", "apply", "-f", "a.yaml", "a.yaml", "-z", "z1") == (
        0,
        "Node gpu01: created\n" * 2,
        "",
    )
    assert peer.last()["query"] == "zone=z1"
    assert peer.last()["body"] == {
        "manifest": "kind: Zone\n",
        "path": "a.yaml",
        "accept_keys": {},
    }


@pytest.mark.mission("M61")
def test_a_refused_document_gives_status_2(peer):
    (peer.home / "a.yaml").write_text("kind: Zone\n")
    status, out, err = peer.run(
        "dora", "apply", "-f", "-", "-f", "a.yaml", stdin="kind: Role\n"
    )
    assert status == 2
    assert out == "Role r: refused: not yours\nNode gpu01: created\n"
    assert err == "dora: warning: a TAB\n"


def test_a_host_key_is_not_pinned_unasked(peer):
    status, out, err = peer.run("dora", "apply", "-f", "-", stdin=NODE)
    assert (status, out) == (2, "")
    assert f"node gpu01: ssh-ed25519 {FINGERPRINT}" in err
    assert "There is no terminal to ask on" in err
    status, out, _ = peer.run("dora", "apply", "-yf", "-", stdin=NODE)
    assert (status, out) == (0, "Node gpu01: created\n")
    assert peer.last()["body"]["accept_keys"] == {"gpu01": FINGERPRINT}
    argv = ["apply", "-f", "-", "--accept-key", f"gpu01={FINGERPRINT}"]
    assert peer.run("dora", *argv, stdin=NODE)[0] == 0


@pytest.mark.mission("M87")
def test_get_and_describe(peer):
    assert peer.run("dora", "get", "NODES", "-w", "ana", "-a") == (0, LIST, "")
    assert peer.last()["path"] == "/v1/kinds/NODES"
    assert peer.last()["query"] == "workspace=ana&all=1&render=table"
    peer.run("dora", "get", "wk", "blue.red", "-g", "ana", "-w", "ana")
    assert peer.last()["query"] == "workspace=ana&name=blue.red&render=table"
    status, out, _ = peer.run("dora", "get", "c", "a.1", "--json")
    assert (status, json.loads(out)) == (0, [{"name": "gpu01"}])
    assert peer.last()["path"] == "/v1/kinds/c/a.1"
    peer.run("dora", "describe", "ws", "ana")
    assert peer.last()["path"] == "/v1/kinds/ws/ana"
    assert peer.last()["query"] == "render=text"


@pytest.mark.mission("M87")
def test_delete(peer):
    said = "Zone z1: draining: 2 workloads run there\n"
    assert peer.run("dora", "delete", "z", "z1") == (0, said, "")
    assert peer.last()["method"] == "DELETE"
    assert peer.run("dora", "delete", "-f", "-", stdin="kind: Role\n")[0] == 2
    assert peer.last()["path"] == "/v1/delete"


def test_status_and_openapi(peer):
    said = "version: 0.1.0\nqueued:  2\nzone:    -\n"
    assert peer.run("dora", "status") == (0, said, "")
    assert json.loads(peer.run("dora", "status", "--json")[1])["queued"] == 2
    (peer.home / "unwell").write_text("thread mail has ended")
    said += "health:  thread mail has ended\n"
    assert peer.run("dora", "status") == (1, said, "")
    status, out, _ = peer.run("dora", "status", "--json")
    assert (status, json.loads(out)["health"]) == (1, "thread mail has ended")
    assert json.loads(peer.run("dora", "openapi")[1]) == {"openapi": "3.1.0"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["gte"], "no command gte (did you mean get?); see dora --help"),
        (["get"], "missing argument 'KIND'; see dora get --help"),
        (["get", "wk", "-g", "a", "-w", "b"], "--workspace b and --group a name two"),
        (["apply"], "which documents? Give -f FILE"),
        (["apply", "-f", "x", "--accept-key", "a"], "--accept-key 'a': write it as"),
        (["delete", "wk"], "give KIND and NAME, or -f FILE"),
        (["delete", "wk", "a", "-f", "x"], "give KIND and NAME, or -f FILE"),
    ],
)
def test_mistakes(peer, argv, message):
    status, out, err = peer.run("dora", *argv)
    assert (status, out) == (2, "")
    assert err.startswith(f"dora: {message}")
    assert err.count("\n") == 1


def test_a_node_is_added_with_the_key_that_was_shown(peer):
    status, out, err = peer.run("dnode", "add", "10.77.0.11")
    assert status == 2
    assert out == f"10.77.0.11 presents ssh-ed25519 {FINGERPRINT}\n"
    assert "There is no terminal to ask on: compare the key" in err
    assert [row["path"] for row in peer.seen()] == ["/v1/nodes/scan"]
    argv = ["add", "10.77.0.11", "--yes", "--name", "gpu01", "--allow", "GPUWorkload"]
    assert peer.run("dnode", *argv)[1].endswith("node gpu01 is added\n")
    assert peer.last()["body"] == {
        "host": "10.77.0.11",
        "port": 22,
        "user": "root",
        "name": "gpu01",
        "fingerprint": FINGERPRINT,
        "allow": ["GPUWorkload"],
    }


def test_another_key_than_the_given_one_is_refused(peer):
    status, _, err = peer.run("dnode", "add", "h", "--fingerprint", OTHER, "--yes")
    assert status == 4
    assert f"h presents {FINGERPRINT}, not {OTHER} as given; nothing was pinned" in err
    assert [row["path"] for row in peer.seen()] == ["/v1/nodes/scan"]
    assert peer.run("dnode", "add", "h", "--fingerprint", FINGERPRINT)[0] == 0
    assert peer.run("dnode", "add", "h", "--fingerprint", "MD5:aa")[0] == 2


def test_a_new_key_for_a_node(peer):
    status, out, err = peer.run("dnode", "rekey", "gpu01", "-y")
    assert status == 0
    assert out.endswith("the new key of gpu01 is pinned\n")
    assert err == f"dnode: the pinned key is {OTHER}\n"
    assert peer.last()["path"] == "/v1/nodes/gpu01/rekey"


def test_nodes_in_and_out_of_use(peer):
    for verb in ("cordon", "uncordon", "probe"):
        assert peer.run("dnode", verb, "gpu01", "gpu02")[0] == 0
        assert peer.last()["path"] == f"/v1/nodes/gpu02/{verb}"
    assert peer.run("dnode", "list") == (0, LIST, "")
    assert peer.run("dnode", "show", "gpu01") == (0, LIST, "")
    assert peer.run("dnode", "remove", "gpu01")[0] == 2
    assert peer.run("dnode", "remove", "gpu01", "--yes")[1] == "2 workloads run there\n"


def test_defrag_only_ever_advises(peer):
    said = "dnode: dnode defrag only gives advice, it moves nothing: give --dry-run\n"
    assert peer.run("dnode", "defrag") == (2, "", said)
    peer.run("dnode", "defrag", "--dry-run", "--json")
    assert (peer.last()["path"], peer.last()["query"]) == ("/v1/defrag", "render=json")
