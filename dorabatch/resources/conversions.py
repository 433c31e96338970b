"""What was given for an option, as the value of its field in a document.

One function for each conversion that the table of options names. Each raises
ValueError with a sentence; none names the option, and none checks what the document
checks itself.
"""

import re
from collections.abc import Callable

from dorabatch.resources.job_options import (
    AS_TYPED,
    CHOICES,
    NUMBER,
    PORTS,
    VARIABLES,
    VOLUMES,
)
from dorabatch.resources.names import show

_PORT = re.compile(r"([0-9]{1,9}):([0-9]{1,9})(?:/([a-z]+))?")
_NUMBER = re.compile(r"-?[0-9]{1,9}")


def listed(value: object) -> list[object]:
    """The values of an option that may be repeated."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list, not {show(value)}")
    return list(value)


def _as_typed(value: object) -> object:
    return value


def _number(value: object) -> object:
    """Digits as a number; anything else stays and is refused where it is checked."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    return value


def _choices(value: object) -> object:
    return "All" if value in (["All"], ("All",)) else value


def _ports(value: object) -> object:
    return [_port(text) for text in listed(value)]


def _port(text: object) -> dict[str, object]:
    match = _PORT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(
            f"{show(text)} is not NODEPORT:PORT[/tcp|udp], such as 25000:8008/tcp"
        )
    port: dict[str, object] = {"nodePort": int(match[1]), "port": int(match[2])}
    if match[3] is not None:
        port["protocol"] = match[3]
    return port


def _volumes(value: object) -> object:
    return [_volume(text) for text in listed(value)]


def _volume(text: object) -> dict[str, object]:
    pieces = text.split(":") if isinstance(text, str) else []
    read_only = len(pieces) == 3 and pieces[2] == "ro"
    if not (len(pieces) == 2 or read_only or (len(pieces) == 3 and pieces[2] == "rw")):
        raise ValueError(
            f"{show(text)} is not [WORKSPACE/]NAME:TARGET[:ro], such as home:/home"
        )
    workspace, divider, name = pieces[0].rpartition("/")
    volume: dict[str, object] = {"name": name, "target": pieces[1]}
    if divider:
        volume["workspace"] = workspace
    if read_only:
        volume["readOnly"] = True
    return volume


CONVERSIONS: dict[str, Callable[[object], object]] = {
    AS_TYPED: _as_typed,
    NUMBER: _number,
    CHOICES: _choices,
    VARIABLES: _as_typed,
    PORTS: _ports,
    VOLUMES: _volumes,
}
