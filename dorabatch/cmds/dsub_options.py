"""The options of dsub, as plain data; the `#DSUB` lines are read by them too.

What describes a job comes from `job_options`. Never reads argv or the environment.
"""

from dorabatch.cmds.options import Command
from dorabatch.resources.job_options import JOB_OPTIONS
from dorabatch.resources.option import FLAG, Option

DSUB = Command(
    "dsub",
    "Submit a workload: a YAML file, a script, or a command in an image.",
    ("FILE", 1),
    (
        *JOB_OPTIONS,
        Option(
            "--hold",
            FLAG,
            "Let it wait until it is released; see drelease.",
            in_script=True,
        ),
        Option(
            "--wait",
            FLAG,
            "Wait for the end; exit with the exit code of the workload.",
            in_script=True,
        ),
        Option(
            "-f --follow",
            FLAG,
            "Print the log as it grows; exit with the code of the workload.",
            in_script=True,
        ),
        Option("--parsable", FLAG, "Print the id and nothing else."),
        Option(
            "--quote",
            FLAG,
            "Submit nothing: print what it would cost and when it would start.",
        ),
        Option("--json", FLAG, "With --quote, print JSON."),
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
            "Start it once another has ended with success",
            'dsub --dependency "afterok:$id" eval.sh',
        ),
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
        "dsub keeps trying for half a minute when the daemon is busy or restarted,"
        " and a submission is never made twice by that."
    ),
)
