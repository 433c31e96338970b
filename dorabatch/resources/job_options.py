"""Every option that describes a job.

One entry says all of an option of dsub: how it is written, what help says of it, its
name in a request and its place in a Workload. The commands, the manual and the daemon
are made from it. Imports no more than it must, so that a command starts at once, and
never converts a value itself.
"""

from dorabatch.resources.option import FLAG, MANY, SWITCH, TEXT, Option

# How what was typed becomes the value of the field; `conversions` has the functions.
AS_TYPED = "as typed"
NUMBER = "number"  # digits become a number
CHOICES = "choices"  # a list, where All alone stands for every one
VARIABLES = "variables"  # NAME=value; they add up, and DSUB_* holds one per line
PORTS = "ports"  # NODEPORT:PORT[/tcp|udp]
VOLUMES = "volumes"  # [WORKSPACE/]NAME:TARGET[:ro]


class JobOption(Option):
    """An option that fills one field of a Workload; #DSUB lines and DSUB_* have it."""

    __slots__ = ("conversion", "place", "request_key")

    def __init__(
        self,
        written: str,
        kind: str,
        text: str,
        place: str,
        *,
        conversion: str = AS_TYPED,
        request_key: str = "",
    ) -> None:
        super().__init__(written, kind, text, in_script=True)
        self.place = place
        """The field, with dots between its steps."""
        self.conversion = conversion
        self.request_key = request_key or self.key
        """Its name in a request, if not that of the option."""


JOB_OPTIONS = (
    JobOption("--name NAME", TEXT, "Name, unique in the workspace.", "metadata.name"),
    JobOption("-i --image IMAGE", TEXT, "Image to run.", "spec.image.image"),
    JobOption(
        "-G --gpus N",
        TEXT,
        "GPUs for each container.",
        "spec.selectors.gpu.count",
        conversion=NUMBER,
    ),
    JobOption(
        "--gpu-model MODEL",
        MANY,
        "A GPU model that will do; give it again for each one.",
        "spec.selectors.gpu.product_name",
        conversion=CHOICES,
        request_key="gpu_models",
    ),
    JobOption(
        "--gpu-share SHARE",
        TEXT,
        "Part of one GPU, such as 0.5, where the site allows it; not isolated.",
        "spec.selectors.gpu.share",
    ),
    JobOption(
        "-c --cpus N",
        TEXT,
        "Cores, or a part: 4, 500m.",
        "spec.selectors.cpu.count",
        conversion=NUMBER,
    ),
    JobOption("-m --memory SIZE", TEXT, "Memory, such as 32G.", "spec.config.memory"),
    JobOption(
        "--replicas N",
        TEXT,
        "How many containers.",
        "spec.replica.count",
        conversion=NUMBER,
    ),
    JobOption(
        "--affinity HOW",
        TEXT,
        "How replicas are spread: First, Random, Distribute or Fill.",
        "spec.config.affinity",
    ),
    JobOption(
        "--restart POLICY", TEXT, "Never or Always.", "spec.config.restartPolicy"
    ),
    JobOption(
        "--no-restartable --restartable",
        SWITCH,
        "May it be stopped and started anew? Then it may be tried early.",
        "spec.config.restartable",
    ),
    JobOption(
        "--on-lost HOW",
        TEXT,
        "When its node is silent: wait, 'wait 2h', requeue or fail.",
        "spec.config.onLost",
    ),
    JobOption(
        "--pull POLICY",
        TEXT,
        "Fetch the image: Always or IfNotPresent.",
        "spec.image.pullPolicy",
    ),
    JobOption(
        "--shm-size SIZE",
        TEXT,
        "Size of /dev/shm, such as 1G.",
        "spec.config.shmSize",
    ),
    JobOption(
        "-e --env NAME=VALUE",
        MANY,
        "A variable of the container.",
        "spec.config.env",
        conversion=VARIABLES,
    ),
    JobOption("--workdir DIR", TEXT, "Directory to start in.", "spec.config.workdir"),
    JobOption(
        "-t --time LIMIT",
        TEXT,
        "Time limit, such as 90s, 30m, 48h or 2d.",
        "spec.config.maxRunTime",
    ),
    JobOption(
        "-N --node NODE",
        MANY,
        "A node it may run on.",
        "spec.selectors.node.name",
        conversion=CHOICES,
        request_key="nodes",
    ),
    JobOption(
        "-d --dependency LIST",
        TEXT,
        "Start after others: after, afterok, afternotok or afterany, such as "
        "afterok:12:13,afterany:train.",
        "spec.dependency",
    ),
    JobOption("-z --zone ZONE", TEXT, "Zone, if not your default.", "metadata.zone"),
    JobOption(
        "-w --workspace WORKSPACE",
        TEXT,
        "Workspace, if not your default.",
        "metadata.workspace",
    ),
    JobOption("--network MODE", TEXT, "none, bridge or host.", "spec.network.mode"),
    JobOption(
        "-p --port NODEPORT:PORT",
        MANY,
        "Publish a port of the container.",
        "spec.network.ports",
        conversion=PORTS,
        request_key="ports",
    ),
    JobOption(
        "-v --volume [WORKSPACE/]NAME:TARGET",
        MANY,
        "Mount a volume.",
        "spec.volumes",
        conversion=VOLUMES,
        request_key="volumes",
    ),
    JobOption(
        "--notify",
        FLAG,
        "Send mail when it starts, ends or fails.",
        "spec.notify.byEmail",
    ),
    JobOption(
        "--nice N",
        TEXT,
        "Let others go first: taken off the priority. Below 0: administrators.",
        "spec.priority.nice",
        conversion=NUMBER,
    ),
    JobOption(
        "--qos QOS",
        TEXT,
        "A QOS of the site, see dshare settings.",
        "spec.priority.qos",
    ),
)
"""In the order of the help."""
