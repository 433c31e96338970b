"""Options become the same Workload that a document would have made."""

import pytest

from dorabatch.errors import ManifestError
from dorabatch.resources.manifest import parse_manifest
from dorabatch.resources.submission import OPTIONS, workload_from_options

IMAGE = {"image": "ubuntu:22.04"}
DOCUMENT = """
apiVersion: v1
kind: Workload
metadata: {name: train, zone: z1, workspace: w1}
spec:
  replica: {count: 2}
  driver: Docker
  selectors:
    gpu: {product_name: [A, B], count: 2}
    cpu: {count: 500m}
    node: {name: [n1, n2]}
  image: {image: 'ubuntu:22.04', pullPolicy: Always}
  config:
    cmd: [python, "x y"]
    affinity: Fill
    restartPolicy: Always
    restartable: false
    shmSize: 1G
    memory: 8Gi
    env: {A: b=c}
    workdir: /x
    maxRunTime: 2h
  volumes:
    - {name: home, target: /home}
    - {name: data, workspace: sets, target: /data, readOnly: true}
  network: {mode: bridge, ports: [{nodePort: 25000, port: 8008, protocol: tcp}]}
  notify: {byEmail: true}
"""


def build(**options):
    return workload_from_options(IMAGE | options, default_name="job")


def test_every_option_says_what_its_field_says():
    workload = build(
        name="train",
        zone="z1",
        workspace="w1",
        replicas="2",
        gpus="2",
        gpu_models=["A", "B"],
        cpus="500m",
        nodes=["n1", "n2"],
        pull="Always",
        cmd=["python", "x y"],
        affinity="Fill",
        restart="Always",
        restartable=False,
        shm_size="1G",
        memory="8Gi",
        env=["A=b=c"],
        workdir="/x",
        time="2h",
        volumes=["home:/home", "sets/data:/data:ro"],
        network="bridge",
        ports=["25000:8008/tcp"],
        notify=True,
    )
    assert workload == parse_manifest(DOCUMENT).documents[0]


def test_nothing_asked_is_one_cpu():
    spec = build().spec
    assert (spec.needs_gpu, spec.cpu_milli, spec.cpu_exclusive) == (False, 1000, True)
    assert spec.argv is None
    assert build().name == "job"


def test_gpus_alone_leave_cpus_to_the_node():
    assert build(gpus=1).spec.cpu_milli is None


def test_a_model_or_a_share_alone_is_one_gpu():
    assert build(gpu_models=["T4"]).spec.gpu_count == 1
    assert build(gpu_share="0.5").spec.gpu_milli == 500
    assert build(gpu_models=["All"]).spec.gpu_models is None


def test_none_and_empty_lists_are_not_given():
    unset = dict.fromkeys(OPTIONS, None) | IMAGE
    assert workload_from_options(unset, default_name="job") == build()
    assert build(gpu_models=[], env=[], cmd=[], ports=(), volumes=[]) == build()


@pytest.mark.parametrize(
    ("script", "head"),
    [
        ("echo a\n", ["/bin/sh", "-c"]),
        ("#!/bin/bash\necho a\n", ["/bin/bash", "-c"]),
        ("#! /bin/bash -l\necho a\n", ["/bin/bash", "-l", "-c"]),
        ("#!/usr/bin/env python3\nprint(1)\n", ["/usr/bin/env", "python3", "-c"]),
        ("#!/usr/bin/env -S python3 -u\n1\n", ["/usr/bin/env", "python3", "-u", "-c"]),
        ("#!/usr/bin/python3.11\n1\n", ["/usr/bin/python3.11", "-c"]),
        ("#!/usr/bin/perl\n1\n", ["/usr/bin/perl", "-e"]),
    ],
)
def test_script(script, head):
    assert build(script=script).spec.argv == (*head, script)


def test_script_arguments():
    shell = build(script="echo $0 $1", cmd=["a b"]).spec.argv
    assert shell == ("/bin/sh", "-c", "echo $0 $1", "job", "a b")
    python = build(script="#!/usr/bin/python3\n", cmd=["a"]).spec.argv
    assert python == ("/usr/bin/python3", "-c", "#!/usr/bin/python3\n", "a")


REFUSED = [
    ({"image": None}, "--image", "is missing"),
    ({"image": "-v"}, "--image", "is not an image"),
    ({"gpus": "0"}, "--gpus", "is 0"),
    ({"gpus": "-1"}, "--gpus", "is -1"),
    ({"gpus": "two"}, "--gpus", "whole number"),
    ({"gpus": True}, "--gpus", "not true"),
    ({"gpus": 1.5}, "--gpus", "whole number"),
    ({"gpu_models": ["a;b"]}, "--gpu-model", "is not a product name"),
    ({"gpu_models": ["All", "T4"]}, "--gpu-model", "All stands alone"),
    ({"gpu_share": "1.5"}, "--gpu-share", "below 1"),
    ({"gpu_share": "-0.5"}, "--gpu-share", "above 0 and below 1"),
    ({"gpu_share": "nan"}, "--gpu-share", "above 0 and below 1"),
    ({"gpu_share": "0.5", "gpus": "2"}, "--gpu-share", "count must be 1"),
    ({"cpus": "0.5"}, "--cpus", "'500m'"),
    ({"cpus": "0"}, "--cpus", "is 0"),
    ({"memory": "8"}, "--memory", "with a unit"),
    ({"memory": "1Mi"}, "--memory", "6Mi"),
    ({"name": "A"}, "--name", "is not a name"),
    ({"name": "12"}, "--name", "workload's id"),
    ({"zone": "a b"}, "--zone", "is not a name"),
    ({"workspace": "../x"}, "--workspace", "is not a name"),
    ({"replicas": "-1"}, "--replicas", "is -1"),
    ({"affinity": "fill"}, "--affinity", "did you mean 'Fill'?"),
    ({"restart": "no"}, "--restart", "must be 'Never' or 'Always'"),
    ({"pull": "always"}, "--pull", "did you mean 'Always'?"),
    ({"shm_size": "x"}, "--shm-size", "with a unit"),
    ({"env": ["A"]}, "--env", "write NAME=value"),
    ({"env": ["1=2"]}, "--env", "variable's name"),
    ({"env": [5]}, "--env", "must be text"),
    ({"workdir": "x"}, "--workdir", "is not a path"),
    ({"time": "60"}, "--time", "such as 90s"),
    ({"nodes": ["-n"]}, "--node", "is not a name"),
    ({"network": "Host"}, "--network", "did you mean 'host'?"),
    ({"ports": ["8008"]}, "--port", "NODEPORT:PORT"),
    ({"ports": ["80:80"]}, "--port", "allowed are 1024"),
    ({"ports": ["25000:80/icmp"]}, "--port", "must be 'tcp' or 'udp'"),
    ({"ports": ["25000:80", "25000:81"]}, "--port", "overlap"),
    ({"ports": ["25000:80"], "network": "none"}, "--port", "need mode bridge"),
    ({"ports": "25000:80"}, "--port", "must be a list"),
    ({"volumes": ["home"]}, "--volume", "NAME:TARGET"),
    ({"volumes": ["home:/a:rx"]}, "--volume", "NAME:TARGET"),
    ({"volumes": ["home:a"]}, "--volume", "is not a path"),
    ({"volumes": ["/home:/a"]}, "--volume", "is not a name"),
    ({"volumes": [3]}, "--volume", "NAME:TARGET"),
    ({"notify": "yes"}, "--notify", "true or false"),
    ({"restartable": "yes"}, "--restartable", "true or false"),
    ({"cmd": [""]}, "the command", "is empty"),
    ({"cmd": ["a\0"]}, "the command", "NUL"),
    ({"cmd": "a b"}, "the command", "must be a list"),
    ({"script": " \n"}, "the script", "is empty"),
    ({"script": "ls", "cmd": ["a"] * 10_000}, "the script", "allowed are 10000"),
    ({"script": 5}, "the script", "must be text"),
    ({"script": "#!/bin/awk -f\n"}, "the script", "'awk'"),
    ({"script": "#!\nx"}, "the script", "names no interpreter"),
    ({"script": "#!bash\nx"}, "the script", "names no interpreter"),
    ({"script": "#!'\nx"}, "the script", "names no interpreter"),
    ({"script": "#!/usr/bin/env\nx"}, "the script", "'env'"),
    ({"script": "#!/bin/sh\r\nx"}, "the script", "DOS line ends"),
    ({"script": "x" * 131_072}, "the script", "131072 bytes"),
    ({"gpu": 1}, "gpu", "is not an option"),
]


@pytest.mark.parametrize(("options", "field", "says"), REFUSED)
def test_refusal_names_the_option(options, field, says):
    with pytest.raises(ManifestError) as caught:
        build(**options)
    assert caught.value.field == field
    assert says in caught.value.problem


def test_several_refusals_at_once():
    with pytest.raises(ManifestError) as caught:
        build(gpus="0", time="x")
    assert caught.value.field == "--gpus"
    assert "also --time: " in caught.value.problem


def test_a_bad_default_name_is_refused():
    with pytest.raises(ManifestError) as caught:
        workload_from_options(IMAGE, default_name="My Job")
    assert caught.value.field == "--name"
