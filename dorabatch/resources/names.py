"""Which names, images, hosts and paths a document may hold.

Decides by allowed forms only: what is not listed is refused, so that nothing a
user writes can be read as an option, a path outside its place or a shell word.
Every check returns the value or raises ValueError with a sentence for the user.
It never looks whether the named thing exists.
"""

import ipaddress
import re
from typing import Annotated

from pydantic import PlainValidator

NAME_LENGTH_MAX = 63
LOGIN_LENGTH_MAX = 128
MODEL_LENGTH_MAX = 100
IMAGE_LENGTH_MAX = 512
PATH_LENGTH_MAX = 1024
TEXT_BYTES_MAX = 128 * 1024 - 1
"""Linux refuses a single argument or variable of 128 KiB or more."""

ALL = "All"
CONSTANTS = (
    ALL,
    "Always",
    "Any",
    "CPUWorkload",
    "Distribute",
    "Docker",
    "Fill",
    "First",
    "GPUWorkload",
    "IfNotPresent",
    "Local",
    "NFS",
    "Never",
    "NodePort",
    "None",
    "Random",
)
_RESERVED = frozenset(CONSTANTS) | {"all", "any", "none", "null", "true", "false"}

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
_NAME_FORM = (
    f"use 1 to {NAME_LENGTH_MAX} lower-case letters, digits, '.', '_' or '-', "
    "beginning and ending with a letter or digit, such as 'blue.red'"
)
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._()@+-]*")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HOST_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_PATH = re.compile(r"/[A-Za-z0-9._/@+=%~-]*")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOST_KEY = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_PORT = r":[0-9]{1,5}"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = (
    rf"(?:localhost(?:{_PORT})?"
    rf"|{_LABEL}(?:\.{_LABEL})*{_PORT}"
    rf"|{_LABEL}(?:\.{_LABEL})+)/"
)
_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_TAG = r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"@sha256:[0-9a-f]{64}"
_IMAGE = re.compile(
    rf"(?:{_REGISTRY})?{_COMPONENT}(?:/{_COMPONENT})*(?:{_TAG})?(?:{_DIGEST})?"
)
_MAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,253}")
_KERNEL_TREES = ("/proc", "/sys", "/dev")
_GUARDED_VARIABLES = frozenset(
    {
        "NVIDIA_VISIBLE_DEVICES",
        "NVIDIA_MIG_CONFIG_DEVICES",
        "NVIDIA_MIG_MONITOR_DEVICES",
    }
)


def show(value: object) -> str:
    """A value as a user may read it in a sentence, cut to a line's length."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return f"the number {value}"


def quoted(text: str) -> str:
    """Text in quotes, unprintable characters escaped, long text cut."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def check_text(value: object) -> str:
    """Any text that may become an argument or a variable's value."""
    if not isinstance(value, str):
        hint = "" if isinstance(value, list | dict) else "; write it in quotes"
        raise ValueError(f"must be text, not {show(value)}{hint}")
    if "\0" in value:
        raise ValueError("must not hold a NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("holds half of a UTF-16 pair, not text") from None
    if len(value) * 4 > TEXT_BYTES_MAX and len(value.encode()) > TEXT_BYTES_MAX:
        size = len(value.encode())
        raise ValueError(
            f"has {size} bytes; one text may have {TEXT_BYTES_MAX}: put it in a file"
        )
    return value


def is_mail_address(text: str) -> bool:
    """Whether it is a plain mail address; a login such as `CORP\\anna` makes none."""
    return _MAIL.fullmatch(text) is not None


def check_mail_address(value: object) -> str:
    """A plain mail address, without a display name."""
    text = check_text(value)
    if not is_mail_address(text):
        raise ValueError(
            f"{quoted(text)} is not a mail address; write one such as ana@example.org"
        )
    return text


def check_name(value: object) -> str:
    """The name of an object, a zone, a workspace or a node."""
    text = check_text(value)
    if text in _RESERVED:
        raise ValueError(f"{text!r} is a reserved word and cannot be a name")
    if len(text) > NAME_LENGTH_MAX or not _NAME.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a name: {_NAME_FORM}")
    if ".." in text:
        raise ValueError(f"{quoted(text)} is not a name: '..' is not allowed in it")
    return text


def check_workload_name(value: object) -> str:
    """A workload's name: a name that cannot be taken for a workload's id."""
    text = check_name(value)
    if text.isdigit():
        raise ValueError(
            f"{text!r} would be read as a workload's id; put a letter into the name"
        )
    return text


def check_name_or_all(value: object) -> str:
    """A name, or the constant All."""
    return ALL if value == ALL else check_name(value)


def check_model(value: object) -> str:
    """The product name of a GPU or CPU, as the hardware reports it."""
    text = check_text(value)
    if text in _RESERVED:
        raise ValueError(f"{text!r} is a reserved word, not a product name")
    if len(text) > MODEL_LENGTH_MAX or not _MODEL.fullmatch(text) or text[-1] == " ":
        raise ValueError(
            f"{quoted(text)} is not a product name: use up to {MODEL_LENGTH_MAX} "
            "letters, digits, spaces or any of . _ ( ) @ + - , "
            "such as 'Tesla V100-SXM2-16GB'"
        )
    return text


def check_image(value: object) -> str:
    """An image reference: [host[:port]/]name[:tag][@sha256:digest]."""
    text = check_text(value)
    if len(text) > IMAGE_LENGTH_MAX or not _IMAGE.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is not an image: write [host[:port]/]name[:tag] with a "
            "lower-case name, such as 'ubuntu:22.04' or 'registry.site:5000/ml/train'"
        )
    return text


def check_env_name(value: object) -> str:
    """The name of an environment variable a user may set."""
    text = check_text(value)
    if not _ENV_NAME.fullmatch(text) or len(text) > 256:
        raise ValueError(
            f"{quoted(text)} is not a variable's name: use letters, digits and '_', "
            "not beginning with a digit"
        )
    if text in _GUARDED_VARIABLES:
        raise ValueError(
            f"{text} is set by the queue for the GPUs given to the workload; "
            "ask for GPUs in spec.selectors.gpu"
        )
    return text


def check_person(value: object) -> str:
    """A login as a directory writes it: `CORP\\anna`, `anna@corp.example.com`, `svc$`.

    Whether there is such a login is not looked at.
    """
    text = check_text(value)
    if text in _RESERVED:
        raise ValueError(f"{text!r} is a reserved word and cannot be a name")
    is_word = text.isprintable() and text == text.strip() and text[:1] != "-"
    is_cut = any(mark in text for mark in "/,:;")
    if not 1 <= len(text) <= LOGIN_LENGTH_MAX or not is_word or is_cut:
        raise ValueError(
            f"{quoted(text)} is not a login: use 1 to {LOGIN_LENGTH_MAX} characters "
            "that print, without any of / , : ; and not beginning with '-'"
        )
    return text


def check_host(value: object) -> str:
    """A host name or IP address (an IPv6 address with or without brackets)."""
    text = check_text(value)
    bare = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
    if ":" in bare:
        try:
            return str(ipaddress.IPv6Address(bare))
        except ValueError:
            raise ValueError(f"{quoted(text)} is not an IPv6 address") from None
    labels = bare.split(".")
    if len(bare) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise ValueError(
            f"{quoted(text)} is not a host: write a host name such as 'node1.site' "
            "or an address such as '10.10.10.2'"
        )
    return bare


def host_and_port(host: str, port: int) -> str:
    """`node1.site:22`, an IPv6 address in brackets: `[fe80::1]:22`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_login(value: object) -> str:
    """An account on a node."""
    text = check_text(value)
    if not _USER.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is not an account: use up to 32 lower-case letters, "
            "digits, '_' or '-', beginning with a letter or '_'"
        )
    return text


def check_host_key(value: object) -> str:
    """A SSH host key's fingerprint as ssh-keygen -l prints it."""
    text = check_text(value)
    if not _HOST_KEY.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is not a fingerprint: write 'SHA256:' and 43 characters, "
            "as ssh-keygen -l prints it"
        )
    return text


def check_path(value: object) -> str:
    """An absolute path without '..'.

    Characters that a shell reads are refused, and so are ',' and ':', which divide
    a mount's options.
    """
    text = check_text(value)
    parts = text.split("/")
    if (
        len(text) > PATH_LENGTH_MAX
        or not _PATH.fullmatch(text)
        or ".." in parts
        or "." in parts
    ):
        raise ValueError(
            f"{quoted(text)} is not a path: begin with '/', use letters, digits and "
            "any of . _ / @ + = % ~ -, and neither '.' nor '..' as a part"
        )
    return "/" + "/".join(part for part in parts if part)


def check_target(value: object) -> str:
    """Where a volume appears in the container."""
    text = check_path(value)
    if text == "/" or any(f"{text}/".startswith(f"{t}/") for t in _KERNEL_TREES):
        raise ValueError(
            f"{quoted(text)} belongs to the system: "
            "a volume cannot be at /, /proc, /sys or /dev"
        )
    return text


Name = Annotated[str, PlainValidator(check_name)]
NameOrAll = Annotated[str, PlainValidator(check_name_or_all)]
WorkloadName = Annotated[str, PlainValidator(check_workload_name)]
ModelName = Annotated[str, PlainValidator(check_model)]
Image = Annotated[str, PlainValidator(check_image)]
Host = Annotated[str, PlainValidator(check_host)]
PersonName = Annotated[str, PlainValidator(check_person)]
Login = Annotated[str, PlainValidator(check_login)]
HostKey = Annotated[str, PlainValidator(check_host_key)]
Path = Annotated[str, PlainValidator(check_path)]
Target = Annotated[str, PlainValidator(check_target)]
