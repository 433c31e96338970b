"""The options of dsub, dstat, dcancel, dhold, drelease and dlog, as plain data.

The quick parser (`argv`), the click commands and the manual are all made from it. What
dsub takes stands in `dsub_options`, which the others need not load. Imports no more
than it must and never reads argv or the environment.
"""

from dorabatch.cmds.late import load
from dorabatch.resources.option import COUNT, FLAG, MANY, MAYBE, TEXT, Option


class Command:
    """One command: its options, its operands and the text of its help."""

    __slots__ = ("by_flag", "examples", "name", "notes", "operands", "options", "text")

    def __init__(
        self,
        name: str,
        text: str,
        operands: tuple[str, int],
        options: tuple[Option, ...],
        *,
        examples: tuple[tuple[str, str], ...],
        notes: str = "",
    ) -> None:
        self.name = name
        self.text = text
        self.operands = operands
        self.options = options
        self.examples = examples
        self.notes = notes
        self.by_flag = {flag: option for option in options for flag in option.flags}


DSTAT = Command(
    "dstat",
    "Show the workloads that wait and run, and why they wait.",
    ("REF", -1),
    (
        Option("-u --user USER", MANY, "Of this user."),
        Option("--me", FLAG, "Only your own."),
        Option("-w --workspace WORKSPACE", MANY, "In this workspace."),
        Option("-z --zone ZONE", MANY, "In this zone."),
        Option(
            "-s --state STATE",
            MANY,
            "In this state: queued, running, ... or PD, R, CG, CD, F, CA, TO, NF.",
        ),
        Option("-n --node NODE", MANY, "On this node."),
        Option("-a --all", FLAG, "Also those that have ended."),
        Option("-l --wide", FLAG, "More columns."),
        Option("-c --containers", FLAG, "One row for each container."),
        Option(
            "-o --format COLUMNS",
            TEXT,
            "Columns to show, separated by commas: id, name, rank, prio, ...",
        ),
        Option(
            "--sort COLUMN", TEXT, "Column to sort by; a minus in front reverses it."
        ),
        Option("--limit N", COUNT, "At most so many rows."),
        Option("--no-header", FLAG, "Leave out the heading."),
        Option("--json", FLAG, "Print JSON."),
        Option(
            "--why REF",
            TEXT,
            "Say why one workload waits and what would start it, or where it is.",
        ),
        Option(
            "--placement",
            FLAG,
            "With --why: what each node lacks, or why this node was taken.",
        ),
        Option(
            "--watch [SECONDS]",
            MAYBE,
            "Show it again every 2 seconds, or as often as you say.",
        ),
    ),
    examples=(
        ("What waits and runs", "dstat"),
        ("Only yours, the ended ones too", "dstat --me --all"),
        ("Two workloads, by id and by name", "dstat 12 blue.red"),
        ("Why does 12 wait?", "dstat --why 12"),
        ("Node by node, or why it runs where it runs", "dstat --why 12 --placement"),
        ("What runs on a node, container by container", "dstat -c -n gpu01"),
        ("Ids of the queued ones, for a script", "dstat --no-header -s PD -o id"),
        ("Everything as JSON", "dstat --all --json"),
        ("Look again every 5 seconds", "dstat --watch 5"),
    ),
    notes=(
        "REF is an id, a name in your workspace, or WORKSPACE/NAME. Different filters"
        " narrow the list; values of one filter widen it, and may also be separated by"
        " commas."
    ),
)

DCANCEL = Command(
    "dcancel",
    "Cancel workloads that wait or run.",
    ("REF", -1),
    (
        Option("--all", FLAG, "All your workloads."),
        Option("-s --state STATE", MANY, "Only those in this state."),
        Option("-u --user USER", TEXT, "Those of another user; for administrators."),
        Option("-w --workspace WORKSPACE", TEXT, "Those in this workspace."),
        Option("-y --yes", FLAG, "Do not ask."),
        Option("--dry-run", FLAG, "Only list what would be cancelled."),
    ),
    examples=(
        ("By id and by name", "dcancel 12 blue.red"),
        ("All yours that still wait", "dcancel --all --state queued"),
        ("See first what it would be", "dcancel --all --dry-run"),
        ("In a script, without a question", "dcancel --all --yes"),
    ),
    notes=(
        "It asks before it cancels more than one workload found by a filter, or more"
        " than ten named ones. Without a terminal there is nobody to ask: give --yes."
    ),
)

DLOG = Command(
    "dlog",
    "Print what a workload wrote, during the run or after its end.",
    ("REF", 1),
    (
        Option("-f --follow", FLAG, "Go on printing until the container ends."),
        Option("-n --tail N", COUNT, "Only the last N lines."),
        Option("-r --replica K", COUNT, "Of this replica; the first is 1."),
        Option(
            "--attempt K",
            COUNT,
            "Of this attempt, if it ran more than once; the last by default.",
        ),
    ),
    examples=(
        ("The whole log", "dlog 12"),
        ("The last 20 lines, and what follows", "dlog -n 20 -f blue.red"),
        ("The second container of a workload", "dlog -r 2 12"),
        ("What the first attempt wrote", "dlog --attempt 1 12"),
    ),
    notes=(
        "While the daemon is being restarted, --follow waits for it and goes on where"
        " it stopped: no line is lost or printed twice."
    ),
)

_OF_WORKSPACE = Option("-w --workspace WORKSPACE", TEXT, "Names are in this workspace.")

DHOLD = Command(
    "dhold",
    "Hold workloads: nothing of them starts until they are released.",
    ("REF", -1),
    (
        Option("--reason TEXT", TEXT, "Why; shown to whoever asks why it waits."),
        _OF_WORKSPACE,
    ),
    examples=(
        ("One, saying why", "dhold 12 --reason 'the data set is being mended'"),
        ("Several, and let them go again", "dhold 12 13 && drelease 12 13"),
    ),
    notes=(
        "What runs goes on; what would start or start anew waits with the reason Held."
        " Of several, those that can be held are, the others are named, and the exit"
        " status is 1."
    ),
)

DRELEASE = Command(
    "drelease",
    "Release held workloads: they may start again.",
    ("REF", -1),
    (_OF_WORKSPACE,),
    examples=(
        ("By id and by name", "drelease 12 blue.red"),
        ("One that was submitted with dsub --hold", "drelease train"),
    ),
    notes="Only who holds a workload, or an administrator, releases it.",
)

_DSUB = "dsub"
_OTHERS = {command.name: command for command in (DSTAT, DCANCEL, DHOLD, DRELEASE, DLOG)}
NAMES = (_DSUB, *_OTHERS)


def command_of(name: str) -> Command:
    """The command of a name."""
    if name != _DSUB:
        return _OTHERS[name]
    found: Command = load("dsub_options").DSUB
    return found
