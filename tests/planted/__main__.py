"""Plants every bug, one at a time: `python -m tests.planted [NAME...]`.

Prints what found each; ends with 1 where one survives, or where something is found
though nothing is planted.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

from tests.planted.bugs import BUGS
from tests.planted.planting import Bug, find

PROCESSES = 2
WORDS_MAX = 90


def main(names: list[str]) -> int:
    """Plant those of these names, or all."""
    unknown = set(names) - {bug.name for bug in BUGS}
    if unknown:
        known = ", ".join(bug.name for bug in BUGS)
        print(f"no bug is called {sorted(unknown)[0]!r} (known: {known})")
        return 2
    chosen = [bug for bug in BUGS if not names or bug.name in names]
    asked: list[Bug | None] = [*chosen] if names else [None, *chosen]
    survivors = 0
    with ThreadPoolExecutor(PROCESSES) as pool:
        for bug, finding in zip(asked, pool.map(find, asked), strict=True):
            name = bug.name if bug else "(nothing planted)"
            is_right = bool(finding.found_by) == (bug is not None)
            survivors += not is_right
            told = finding.found_by or ("NOT CAUGHT" if bug else "nothing found")
            print(f"{name:34} {told:18} {finding.words[:WORDS_MAX]}", flush=True)
    print(f"{len(chosen)} bugs, {survivors} not as they should be")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
