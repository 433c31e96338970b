"""Which names are accounts of this machine, as its directory says.

Asks each time: a directory changes while the daemon runs. Decides no right.
"""

import pwd


def is_login(name: str) -> bool:
    """Whether somebody can log in here under this name."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
