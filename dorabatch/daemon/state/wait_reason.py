"""Why a container waits: a short code to filter by, and a sentence for people.

Pure: a value only; whoever lets it wait says the words.
"""

from typing import NamedTuple


class WaitReason(NamedTuple):
    """One reason; the same for a list, a record and `dstat --why`."""

    code: str
    sentence: str
