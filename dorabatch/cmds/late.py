"""Import a module of ours at the moment it is needed.

The commands are short: what a run does not use must not be loaded. Decides
nothing; a test asserts what a quick run loads.
"""

import sys
from types import ModuleType


def load(name: str) -> ModuleType:
    """The module `dorabatch.cmds.NAME`, imported now if it is not yet."""
    full = f"dorabatch.cmds.{name}"
    __import__(full)
    return sys.modules[full]
