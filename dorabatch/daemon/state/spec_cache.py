"""Stored specs as values, each text read once.

Keeps what it read; changes and checks nothing.
"""

from dorabatch.resources.workload import WorkloadSpec, load_spec

_SPECS: dict[str, WorkloadSpec] = {}
_SPECS_MAX = 50_000


def spec_of_text(spec_json: str) -> WorkloadSpec:
    """The spec that is stored as this text."""
    spec = _SPECS.get(spec_json)
    if spec is None:
        spec = load_spec(spec_json)
        remember_spec(spec_json, spec)
    return spec


def remember_spec(spec_json: str, spec: WorkloadSpec) -> None:
    """Spare the next reader of this text the parsing."""
    if len(_SPECS) >= _SPECS_MAX:
        _SPECS.clear()
    _SPECS[spec_json] = spec
