"""The options of dsub, dstat, dcancel and dlog, as one table of plain data.

The quick parser (`argv`), the click commands, the manual and the `#DSUB` lines are
all made from it. Imports nothing and never reads argv or the environment.
"""

# What an option takes.
FLAG = "flag"  # nothing: present or absent
SWITCH = "switch"  # nothing: --no-NAME means no, --NAME means yes
TEXT = "text"  # one value, sent as it was typed
COUNT = "count"  # one whole number, checked here
MANY = "many"  # one value each time it is given
MAYBE = "maybe"  # a number or nothing; only the full parser reads these

# What of dsub a job is made of, and the other two ways an option can be meant.
JOB = "job"  # part of the request; also read from DSUB_* and #DSUB lines
SCRIPT = "script"  # what the command does afterwards; also read from #DSUB lines
COMMAND = "command"  # only on the command line


class Option:
    """One option: its names, what it takes and what it is for."""

    __slots__ = ("flags", "help", "key", "kind", "metavar", "scope")

    def __init__(
        self, flags: str, kind: str, text: str, *, metavar: str = "", scope: str = JOB
    ) -> None:
        self.flags = tuple(flags.split())
        self.key = self.flags[-1].lstrip("-").replace("-", "_")
        self.kind = kind
        self.help = text
        self.metavar = metavar
        self.scope = scope


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


DSUB = Command(
    "dsub",
    "Submit a workload: a YAML file, a script, or a command in an image.",
    ("FILE", 1),
    (
        Option("--name", TEXT, "Name, unique in the workspace.", metavar="NAME"),
        Option("-i --image", TEXT, "Image to run.", metavar="IMAGE"),
        Option("-G --gpus", TEXT, "GPUs for each container.", metavar="N"),
        Option(
            "--gpu-model",
            MANY,
            "A GPU model that will do; give it again for each one.",
            metavar="MODEL",
        ),
        Option(
            "--gpu-share",
            TEXT,
            "Part of one GPU, such as 0.5, where the site allows it; not isolated.",
            metavar="SHARE",
        ),
        Option("-c --cpus", TEXT, "Cores, or a part: 4, 500m.", metavar="N"),
        Option("-m --memory", TEXT, "Memory, such as 32G.", metavar="SIZE"),
        Option("--replicas", TEXT, "How many containers.", metavar="N"),
        Option(
            "--affinity",
            TEXT,
            "How replicas are spread: First, Random, Distribute or Fill.",
            metavar="HOW",
        ),
        Option("--restart", TEXT, "Never or Always.", metavar="POLICY"),
        Option(
            "--no-restartable --restartable",
            SWITCH,
            "May it be stopped and started anew? Then it may be tried early.",
        ),
        Option(
            "--pull", TEXT, "Fetch the image: Always or IfNotPresent.", metavar="POLICY"
        ),
        Option("--shm-size", TEXT, "Size of /dev/shm, such as 1G.", metavar="SIZE"),
        Option("-e --env", MANY, "A variable of the container.", metavar="NAME=VALUE"),
        Option("--workdir", TEXT, "Directory to start in.", metavar="DIR"),
        Option(
            "-t --time",
            TEXT,
            "Time limit: minutes, H:M:S, D-H:M, or 90m, 2h, 1d.",
            metavar="LIMIT",
        ),
        Option("-N --node", MANY, "A node it may run on.", metavar="NODE"),
        Option("-z --zone", TEXT, "Zone, if not your default.", metavar="ZONE"),
        Option(
            "-w --workspace",
            TEXT,
            "Workspace, if not your default.",
            metavar="WORKSPACE",
        ),
        Option("--network", TEXT, "none, bridge or host.", metavar="MODE"),
        Option(
            "-p --port", MANY, "Publish a port of the container.", metavar="HOST:PORT"
        ),
        Option(
            "-v --volume", MANY, "Mount a volume.", metavar="[WORKSPACE/]NAME:TARGET"
        ),
        Option("--notify", FLAG, "Send mail when it starts, ends or fails."),
        Option(
            "--nice",
            TEXT,
            "Let others go first: taken off the priority. Below 0: administrators.",
            metavar="N",
        ),
        Option("--qos", TEXT, "A QOS of the site, see dshare settings.", metavar="QOS"),
        Option(
            "--wait",
            FLAG,
            "Wait for the end; exit with the exit code of the workload.",
            scope=SCRIPT,
        ),
        Option(
            "-f --follow",
            FLAG,
            "Print the log as it grows; exit with the code of the workload.",
            scope=SCRIPT,
        ),
        Option("--parsable", FLAG, "Print the id and nothing else.", scope=COMMAND),
        Option(
            "--quote",
            FLAG,
            "Submit nothing: print what it would cost and when it would start.",
            scope=COMMAND,
        ),
        Option("--json", FLAG, "With --quote, print JSON.", scope=COMMAND),
    ),
    examples=(
        ("Submit a YAML document", "dsub job.yaml"),
        ("Submit a script with #DSUB lines, and wait for it", "dsub --wait train.sh"),
        ("Give the script arguments", "dsub train.sh -- --epochs 3"),
        (
            "Run a command in an image on two GPUs of one model",
            'dsub -G 2 --gpu-model "Tesla V100-SXM2-16GB" -i pytorch/pytorch'
            " -- python train.py",
        ),
        ("Submit what another command prints", "./make-job | dsub -"),
        ("Keep the id for later", "id=$(dsub --parsable job.yaml)"),
        (
            "Ask first what it would cost, and when it would start",
            "dsub --quote job.yaml",
        ),
    ),
    notes=(
        "A file is YAML when its name ends in .yaml, .yml or .json or its text begins"
        " like a document; it is a script when its first line begins with #! or it has"
        " #DSUB lines. A YAML document says everything itself: of the options only"
        " --wait, --follow, --parsable, --quote and --json go with it.\n"
        "A #DSUB line holds options as they are typed here. They are read up to the"
        " first line that is neither blank nor a comment.\n"
        "Each option of the workload can be set in the environment too: DSUB_IMAGE for"
        " --image, DSUB_GPU_MODEL for --gpu-model. Options that may be repeated take"
        " values separated by commas there, and DSUB_ENV one per line.\n"
        "The command line wins over the environment, and the environment over #DSUB"
        " lines. An option that may be repeated replaces the whole list, except --env,"
        " which adds variables to those already named.\n"
        "dsub keeps trying for a few seconds when the daemon is being restarted, and a"
        " submission is never made twice by that."
    ),
)

DSTAT = Command(
    "dstat",
    "Show the workloads that wait and run, and why they wait.",
    ("REF", -1),
    (
        Option("-u --user", MANY, "Of this user.", metavar="USER", scope=COMMAND),
        Option("--me", FLAG, "Only your own.", scope=COMMAND),
        Option(
            "-w --workspace",
            MANY,
            "In this workspace.",
            metavar="WORKSPACE",
            scope=COMMAND,
        ),
        Option("-z --zone", MANY, "In this zone.", metavar="ZONE", scope=COMMAND),
        Option(
            "-s --state",
            MANY,
            "In this state: queued, running, ... or PD, R, CG, CD, F, CA, TO, NF.",
            metavar="STATE",
            scope=COMMAND,
        ),
        Option("-n --node", MANY, "On this node.", metavar="NODE", scope=COMMAND),
        Option("-a --all", FLAG, "Also those that have ended.", scope=COMMAND),
        Option("-l --wide", FLAG, "More columns.", scope=COMMAND),
        Option("-c --containers", FLAG, "One row for each container.", scope=COMMAND),
        Option(
            "-o --format",
            TEXT,
            "Columns to show, separated by commas: id, name, rank, prio, ...",
            metavar="COLUMNS",
            scope=COMMAND,
        ),
        Option(
            "--sort",
            TEXT,
            "Column to sort by; a minus in front reverses it.",
            metavar="COLUMN",
            scope=COMMAND,
        ),
        Option("--limit", COUNT, "At most so many rows.", metavar="N", scope=COMMAND),
        Option("--no-header", FLAG, "Leave out the heading.", scope=COMMAND),
        Option("--json", FLAG, "Print JSON.", scope=COMMAND),
        Option(
            "--why",
            TEXT,
            "Say why one workload waits and what would start it, or where it is.",
            metavar="REF",
            scope=COMMAND,
        ),
        Option(
            "--placement",
            FLAG,
            "With --why: what each node lacks, or why this node was taken.",
            scope=COMMAND,
        ),
        Option(
            "--watch",
            MAYBE,
            "Show it again every 2 seconds, or as often as you say.",
            metavar="[SECONDS]",
            scope=COMMAND,
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
        Option("--all", FLAG, "All your workloads.", scope=COMMAND),
        Option(
            "-s --state",
            MANY,
            "Only those in this state.",
            metavar="STATE",
            scope=COMMAND,
        ),
        Option(
            "-u --user",
            TEXT,
            "Those of another user; for administrators.",
            metavar="USER",
            scope=COMMAND,
        ),
        Option(
            "-w --workspace",
            TEXT,
            "Those in this workspace.",
            metavar="WORKSPACE",
            scope=COMMAND,
        ),
        Option("-y --yes", FLAG, "Do not ask.", scope=COMMAND),
        Option("--dry-run", FLAG, "Only list what would be cancelled.", scope=COMMAND),
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
        Option(
            "-f --follow",
            FLAG,
            "Go on printing until the container ends.",
            scope=COMMAND,
        ),
        Option(
            "-n --tail", COUNT, "Only the last N lines.", metavar="N", scope=COMMAND
        ),
        Option(
            "-r --replica",
            COUNT,
            "Of this replica; the first is 1.",
            metavar="K",
            scope=COMMAND,
        ),
        Option(
            "--attempt",
            COUNT,
            "Of this attempt, if it ran more than once; the last by default.",
            metavar="K",
            scope=COMMAND,
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

COMMANDS = {command.name: command for command in (DSUB, DSTAT, DCANCEL, DLOG)}
