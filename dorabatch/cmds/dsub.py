"""Submit a workload, and wait for it or print its log when asked to.

Builds the request from the command line, the DSUB_* variables and the #DSUB lines;
the daemon judges it. Never reads YAML.
"""

import os
from _collections_abc import Mapping

from dorabatch.cmds.argv import Value, Values
from dorabatch.cmds.client import DaemonAway, send
from dorabatch.cmds.jsontext import Json, encode_json
from dorabatch.cmds.late import load
from dorabatch.cmds.terminal import say, stream_out, warn
from dorabatch.errors import UserError
from dorabatch.resources.job_options import JOB_OPTIONS, VARIABLES, JobOption
from dorabatch.resources.option import FLAG, MANY, SWITCH

PREFIX = "DSUB_"
YES = frozenset({"1", "true", "yes", "on"})
NO = frozenset({"", "0", "false", "no", "off"})
ADD_UP = frozenset(
    option.key for option in JOB_OPTIONS if option.conversion == VARIABLES
)

Given = dict[str, Value]


class Submission:
    """What to send, and what to do when it is accepted."""

    __slots__ = ("after", "body")

    def __init__(self, body: dict[str, Json], after: Given) -> None:
        self.body = body
        self.after = after


def run(values: Values) -> int:
    """Submit; the exit status is that of the workload when it is waited for."""
    submission = build(values, os.environ)
    if values.flag("quote"):
        return _quote(submission.body, is_json=values.flag("json"))
    if values.flag("json"):
        raise UserError("--json goes with --quote; give --parsable for the id alone")
    submission.body["submission_key"] = os.urandom(16).hex()
    after = submission.after
    if "hold" in after:
        submission.body["hold"] = True
    workload_id, warnings = _submit(encode_json(submission.body))
    warn("dsub", warnings)
    say(workload_id if "parsable" in after else f"Submitted workload {workload_id}")
    if "follow" in after:
        return int(load("follow").follow_workload("dsub", workload_id))
    if "wait" in after:
        return int(load("follow").wait_workload("dsub", workload_id))
    return 0


def _quote(body: dict[str, Json], *, is_json: bool) -> int:
    """Print what it would cost; nothing is submitted."""
    render = "json" if is_json else "text"
    answer = send("POST", "/v1/quote", [("render", render)], encode_json(body))
    warn("dsub", answer.warnings())
    stream_out(answer.body())
    return 0


def build(values: Values, environ: Mapping[str, str]) -> Submission:
    """Make the request of a command line."""
    path = values.operands[0] if values.operands else None
    if path is None:
        return _from_command(values, environ)
    source = load("script_file")
    text: str = source.read_text(path)
    shown = "<stdin>" if path == "-" else path
    if source.is_yaml(path, text):
        _refuse_options(values, shown)
        return Submission({"manifest": text, "path": shown}, values.given)
    given = merge(source.script_options(path, text), environ, values.given)
    options = job_options(given)
    options["script"] = text
    if values.tail is not None:
        options["cmd"] = values.tail
    return Submission({"options": options, "path": shown}, given)


def _from_command(values: Values, environ: Mapping[str, str]) -> Submission:
    given = merge({}, environ, values.given)
    options = job_options(given)
    if "image" not in options and values.tail:
        raise UserError(
            "a command needs an image to run in: give --image IMAGE before the --"
        )
    if "image" not in options:
        raise UserError(
            "nothing to run: give a FILE, or - for standard input, or"
            " --image IMAGE -- COMMAND; see dsub --help"
        )
    if values.tail is not None:
        options["cmd"] = values.tail
    return Submission({"options": options}, given)


def merge(script: Given, environ: Mapping[str, str], given: Given) -> Given:
    """Lay the command line over the environment over the #DSUB lines."""
    merged = dict(script)
    for layer in (from_environment(environ), given):
        for key, value in layer.items():
            below = merged.get(key) if key in ADD_UP else None
            if isinstance(below, list) and isinstance(value, list):
                merged[key] = below + value
            else:
                merged[key] = value
    return merged


def from_environment(environ: Mapping[str, str]) -> Given:
    """The options set by DSUB_* variables."""
    given: Given = {}
    for option in JOB_OPTIONS:
        name = PREFIX + option.key.upper()
        text = environ.get(name)
        if text is None:
            continue
        value = _environment_value(option, name, text)
        if option.kind == SWITCH or value not in (False, "", []):
            given[option.key] = value
    return given


def _environment_value(option: JobOption, name: str, text: str) -> Value:
    if option.kind == MANY:
        separator = "\n" if option.conversion == VARIABLES else ","
        pieces = (piece.strip() for piece in text.split(separator))
        return [piece for piece in pieces if piece]
    if option.kind not in (FLAG, SWITCH):
        return text
    if text.lower() not in YES | NO:
        raise UserError(f"{name} is '{text}'; set it to 1 or 0")
    return text.lower() in YES


def job_options(given: Given) -> dict[str, Json]:
    """The options that the daemon wants to know, under its names for them."""
    return {
        option.request_key: given[option.key]
        for option in JOB_OPTIONS
        if option.key in given
    }


def _refuse_options(values: Values, path: str) -> None:
    """A document says everything itself: options beside it would be ignored."""
    extra = [option.flags[-1] for option in JOB_OPTIONS if option.key in values.given]
    if values.tail is not None:
        extra.append("-- COMMAND")
    if extra:
        raise UserError(
            f"{path} is a YAML document, which says everything itself:"
            f" {', '.join(extra)} cannot be given with it; write it in the document"
        )


def _submit(body: bytes) -> tuple[str, list[str]]:
    """Send it, again if need be: the submission key keeps it from counting twice."""

    def request() -> tuple[str, list[str]]:
        answer = send("POST", "/v1/workloads", [("render", "id")], body)
        return answer.read().decode().strip(), answer.warnings()

    try:
        return request()
    except DaemonAway as error:
        done: tuple[str, list[str]] = load("patience").send_again(
            "dsub", request, error, what="the submission", look="dstat --me"
        )
        return done
