"""Write JSON without the json package, which costs more than the whole request.

Knows texts, numbers, truth values, lists and objects. Never reads JSON.
`_collections_abc` is loaded at every start of Python, `collections.abc` is not.
"""

from _collections_abc import Mapping, Sequence

from dorabatch.errors import UserError

Json = str | int | bool | None | Sequence["Json"] | Mapping[str, "Json"]

_ESCAPES = {code: f"\\u{code:04x}" for code in range(32)}
_ESCAPES[ord('"')] = '\\"'
_ESCAPES[ord("\\")] = "\\\\"


def render_json(value: Json) -> str:
    """Render a value as one line of JSON."""
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPES)}"'
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        pairs = (f"{render_json(key)}:{render_json(value[key])}" for key in value)
        return "{" + ",".join(pairs) + "}"
    return "[" + ",".join(render_json(item) for item in value) + "]"


def encode_json(value: Json) -> bytes:
    """Render a value as the bytes of a request."""
    try:
        return render_json(value).encode()
    except UnicodeEncodeError as error:
        text = error.object
        start = text.rfind('"', 0, error.start) + 1
        piece = text[start : text.find('"', error.end)]
        raise UserError(
            f"{piece!a} is not UTF-8 text; write file names and values in UTF-8"
        ) from error
