"""Command-line options to a Workload, the same as if a document had said it.

Decides what each option means and names the option in every refusal. Whatever a
document refuses is refused here by the same checks. It never reads argv, files or
environment variables: options come as a mapping.
"""

import re
from collections.abc import Mapping

from pydantic import ValidationError

from dorabatch.errors import ManifestError
from dorabatch.resources.explain import Problem, explain, render_field
from dorabatch.resources.names import check_text, show
from dorabatch.resources.script import script_argv
from dorabatch.resources.workload import WorkloadDocument
from dorabatch.resources.yamltree import Loc

OPTIONS: dict[str, str] = {
    "name": "--name",
    "image": "--image",
    "gpus": "--gpus",
    "gpu_models": "--gpu-model",
    "gpu_share": "--gpu-share",
    "cpus": "--cpus",
    "memory": "--memory",
    "replicas": "--replicas",
    "affinity": "--affinity",
    "restart": "--restart",
    "restartable": "--restartable",
    "pull": "--pull",
    "shm_size": "--shm-size",
    "env": "--env",
    "workdir": "--workdir",
    "time": "--time",
    "nodes": "--node",
    "zone": "--zone",
    "workspace": "--workspace",
    "network": "--network",
    "ports": "--port",
    "volumes": "--volume",
    "notify": "--notify",
    "nice": "--nice",
    "qos": "--qos",
    "cmd": "the command",
    "script": "the script",
}
"""Every key of the mapping, and how its user wrote it."""

_PLACES: dict[Loc, str] = {
    ("metadata", "name"): "name",
    ("metadata", "zone"): "zone",
    ("metadata", "workspace"): "workspace",
    ("spec", "image", "image"): "image",
    ("spec", "image", "pullPolicy"): "pull",
    ("spec", "selectors", "gpu", "count"): "gpus",
    ("spec", "selectors", "gpu", "product_name"): "gpu_models",
    ("spec", "selectors", "gpu", "share"): "gpu_share",
    ("spec", "selectors", "cpu"): "cpus",
    ("spec", "selectors", "node"): "nodes",
    ("spec", "replica"): "replicas",
    ("spec", "config", "cmd"): "cmd",
    ("spec", "config", "affinity"): "affinity",
    ("spec", "config", "restartPolicy"): "restart",
    ("spec", "config", "restartable"): "restartable",
    ("spec", "config", "shmSize"): "shm_size",
    ("spec", "config", "memory"): "memory",
    ("spec", "config", "env"): "env",
    ("spec", "config", "workdir"): "workdir",
    ("spec", "config", "maxRunTime"): "time",
    ("spec", "network", "mode"): "network",
    ("spec", "network"): "ports",
    ("spec", "volumes"): "volumes",
    ("spec", "notify"): "notify",
    ("spec", "priority", "nice"): "nice",
    ("spec", "priority", "qos"): "qos",
}
_PORT = re.compile(r"([0-9]{1,9}):([0-9]{1,9})(?:/([a-z]+))?")
_NUMBER = re.compile(r"-?[0-9]{1,9}")
_CONFIG = {
    "affinity": "affinity",
    "restart": "restartPolicy",
    "restartable": "restartable",
    "shm_size": "shmSize",
    "memory": "memory",
    "env": "env",
    "workdir": "workdir",
    "time": "maxRunTime",
}


def workload_from_options(
    options: Mapping[str, object], *, default_name: str
) -> WorkloadDocument:
    """The Workload that the options describe; an absent or None option is unset."""
    given = {
        key: value
        for key, value in options.items()
        if value is not None and value != [] and value != ()
    }
    unknown = sorted(given.keys() - OPTIONS.keys())
    if unknown:
        raise ManifestError("is not an option of a submission", field=unknown[0])
    if "image" not in given:
        raise ManifestError(
            "is missing and the site has set no default image; for example "
            "--image ubuntu:22.04",
            field=OPTIONS["image"],
        )
    document = {
        "apiVersion": "v1",
        "kind": "Workload",
        "metadata": _metadata(given, default_name),
        "spec": _spec(given, default_name),
    }
    try:
        return WorkloadDocument.model_validate(document)
    except ValidationError as error:
        raise _refusal(explain(error, WorkloadDocument), given) from None


def _metadata(given: dict[str, object], default_name: str) -> dict[str, object]:
    metadata: dict[str, object] = {"name": given.get("name", default_name)}
    metadata |= {key: given[key] for key in ("zone", "workspace") if key in given}
    return metadata


def _spec(given: dict[str, object], default_name: str) -> dict[str, object]:
    image = {"image": given["image"]}
    if "pull" in given:
        image["pullPolicy"] = given["pull"]
    spec: dict[str, object] = {
        "driver": "Docker",
        "selectors": _selectors(given),
        "image": image,
        "config": _config(given, default_name),
    }
    if "replicas" in given:
        spec["replica"] = {"count": _number(given["replicas"])}
    if "volumes" in given:
        spec["volumes"] = [_volume(text) for text in _each(given, "volumes")]
    if "network" in given or "ports" in given:
        spec["network"] = _network(given)
    if "notify" in given:
        spec["notify"] = {"byEmail": given["notify"]}
    turn = {key: given[key] for key in ("nice", "qos") if key in given}
    if turn:
        spec["priority"] = {
            key: _number(value) if key == "nice" else value
            for key, value in turn.items()
        }
    return spec


def _selectors(given: dict[str, object]) -> dict[str, object]:
    selectors: dict[str, object] = {}
    wants_gpu = any(key in given for key in ("gpus", "gpu_models", "gpu_share"))
    if wants_gpu:
        gpu: dict[str, object] = {"count": _number(given.get("gpus", 1))}
        if "gpu_models" in given:
            gpu["product_name"] = _one_or_all(given["gpu_models"])
        if "gpu_share" in given:
            gpu["share"] = given["gpu_share"]
        selectors["gpu"] = gpu
    if "cpus" in given or not wants_gpu:
        selectors["cpu"] = {"count": _number(given.get("cpus", 1))}
    if "nodes" in given:
        selectors["node"] = {"name": _one_or_all(given["nodes"])}
    return selectors


def _config(given: dict[str, object], default_name: str) -> dict[str, object]:
    config = {field: given[key] for key, field in _CONFIG.items() if key in given}
    if "script" in given:
        config["cmd"] = _script(given, default_name)
    elif "cmd" in given:
        config["cmd"] = _each(given, "cmd")
    return config


def _script(given: dict[str, object], default_name: str) -> list[str]:
    name = given.get("name", default_name)
    try:
        return script_argv(
            check_text(given["script"]),
            name=name if isinstance(name, str) else default_name,
            arguments=[check_text(word) for word in _each(given, "cmd")],
        )
    except ValueError as error:
        raise ManifestError(str(error), field=OPTIONS["script"]) from None


def _network(given: dict[str, object]) -> dict[str, object]:
    network: dict[str, object] = {}
    if "network" in given:
        network["mode"] = given["network"]
    if "ports" in given:
        network["ports"] = [_port(text) for text in _each(given, "ports")]
    return network


def _each(given: dict[str, object], key: str) -> list[object]:
    value = given.get(key, [])
    if not isinstance(value, list | tuple):
        raise ManifestError(f"must be a list, not {show(value)}", field=OPTIONS[key])
    return list(value)


def _one_or_all(value: object) -> object:
    return "All" if value in (["All"], ("All",)) else value


def _number(value: object) -> object:
    """Digits as a number; anything else stays and is refused where it is checked."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    return value


def _port(text: object) -> dict[str, object]:
    match = _PORT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ManifestError(
            f"{show(text)} is not NODEPORT:PORT[/tcp|udp], such as 25000:8008/tcp",
            field=OPTIONS["ports"],
        )
    port: dict[str, object] = {"nodePort": int(match[1]), "port": int(match[2])}
    if match[3] is not None:
        port["protocol"] = match[3]
    return port


def _volume(text: object) -> dict[str, object]:
    pieces = text.split(":") if isinstance(text, str) else []
    read_only = len(pieces) == 3 and pieces[2] == "ro"
    if not (len(pieces) == 2 or read_only or (len(pieces) == 3 and pieces[2] == "rw")):
        raise ManifestError(
            f"{show(text)} is not [WORKSPACE/]NAME:TARGET[:ro], such as home:/home",
            field=OPTIONS["volumes"],
        )
    workspace, divider, name = pieces[0].rpartition("/")
    volume: dict[str, object] = {"name": name, "target": pieces[1]}
    if divider:
        volume["workspace"] = workspace
    if read_only:
        volume["readOnly"] = True
    return volume


def _refusal(problems: list[Problem], given: dict[str, object]) -> ManifestError:
    first, *others = [(_option_of(p.loc, given), p.sentence) for p in problems]
    lines = [first[1], *(f"  also {option}: {text}" for option, text in others[:4])]
    return ManifestError("\n".join(lines), field=first[0])


def _option_of(loc: Loc, given: dict[str, object]) -> str:
    """How the user wrote what became this field."""
    for length in range(len(loc), 0, -1):
        key = _PLACES.get(loc[:length])
        if key is not None:
            return _written(key, given)
    return render_field(loc)


def _written(key: str, given: dict[str, object]) -> str:
    if key == "cmd" and "script" in given:
        key = "script"
    return OPTIONS[key]
