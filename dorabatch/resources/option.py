"""What an option of a command is: how it is written, what it takes and what it means.

Imports nothing, so that a command starts at once.
"""

# What an option takes.
FLAG = "flag"  # nothing: present or absent
SWITCH = "switch"  # nothing: --no-NAME means no, --NAME means yes
TEXT = "text"  # one value, sent as it was typed
COUNT = "count"  # one whole number, checked here
MANY = "many"  # one value each time it is given
MAYBE = "maybe"  # a number or nothing; only the full parser reads these


class Option:
    """One option: its flags and what help calls its value, what it takes and means."""

    __slots__ = ("flags", "help", "in_script", "key", "kind", "metavar")

    def __init__(
        self, written: str, kind: str, text: str, *, in_script: bool = False
    ) -> None:
        words = written.split()
        self.metavar = words.pop() if words[-1][0] != "-" else ""
        self.flags = tuple(words)
        self.key = self.flags[-1].lstrip("-").replace("-", "_")
        self.kind = kind
        self.help = text
        self.in_script = in_script
        """Whether a #DSUB line may hold it too."""
