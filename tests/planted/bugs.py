"""The bugs that are planted, each as one replacement in one file.

Those of the head were once planted by hand and survived; every bug that a site or a
review finds may be added here in the form in which it was in the code.
"""

from tests.planted.planting import Bug, simulation, tests_of

RUNS = "dorabatch/daemon/runs"
CYCLE = "dorabatch/daemon/cycle"
STATE = "dorabatch/daemon/state"
DEPENDENT = (simulation("dependent"),)
TRIED = (simulation("tried"),)
HOLDS = tests_of("tests/unit/daemon/test_holds.py", "tests/unit/daemon/test_commit.py")
PAID = (simulation("usual", "unlimited"),)

BUGS: tuple[Bug, ...] = (
    Bug(
        name="GPUs are free before removal",
        file=f"{RUNS}/concluder.py",
        old="""\
        self._driver.remove(name)
        self._steps.reach(Step.REMOVED)
        self._confirm_gone(name, container)
        self._records.gone(container)
""",
        new="""\
        self._records.gone(container)
        self._driver.remove(name)
        self._steps.reach(Step.REMOVED)
        self._confirm_gone(name, container)
""",
    ),
    Bug(
        name="a failed removal is ignored",
        file=f"{RUNS}/concluder.py",
        old="        self._confirm_gone(name, container)\n        self._records.gone",
        new="        self._records.gone",
    ),
    Bug(
        name="an error of removal is swallowed",
        file=f"{RUNS}/concluder.py",
        old="""\
        self._driver.remove(name)
        self._steps.reach(Step.REMOVED)
        self._confirm_gone(name, container)
""",
        new="""\
        try:
            self._driver.remove(name)
            self._confirm_gone(name, container)
        except NodeError:
            pass
""",
    ),
    Bug(
        name="a start error is swallowed",
        file=f"{RUNS}/launcher.py",
        old="""\
            self._records.refused(container, refusal)
            return
""",
        new="""\
            docker_id = boot_id = str(refusal)
""",
    ),
    Bug(
        name="running is recorded, nothing runs",
        file=f"{RUNS}/launcher.py",
        old="            self._driver.start(request.identity.name)\n",
        new="",
    ),
    Bug(
        name="what was lost is not queued again",
        file=f"{RUNS}/settle.py",
        old="""\
    if container.after_stop is AfterStop.REQUEUE:
        return requeued(container, now)
    return finished""",
        new="    return finished",
    ),
    Bug(
        name="ledger keys are not kept",
        file="dorabatch/fairshare/money/book.py",
        old="        if posting.key in self.keys:\n"
        "            return PostingOutcome(repeated=True)\n",
        new="",
        by=(
            simulation("usual", "unlimited", seeds="0-3"),
            tests_of("tests/property/test_ledger.py", "tests/contract"),
        ),
    ),
    Bug(
        name="the boot id is ignored",
        file=f"{RUNS}/end_verdict.py",
        old="    if not then or then == around.boot_id:\n        return False\n",
        new="    return False\n",
    ),
    Bug(
        name="the boot id of the plan is kept",
        file=f"{RUNS}/start_records.py",
        old="hold=replace(after.hold, boot_id=boot_id)",
        new="hold=after.hold",
    ),
    Bug(
        name="an overtaken daemon writes on",
        file="dorabatch/daemon/assembly.py",
        old="guard=lambda tx: refuse_when_overtaken(tx, zone, epoch)",
        new="guard=lambda tx: None",
    ),
    Bug(
        name="a charge adds up on replay",
        file="dorabatch/fairshare/money/book.py",
        old="    due = posting.amount - posted\n",
        new="    due = posting.amount\n",
        by=PAID,
    ),
    Bug(
        name="a stale plan is committed",
        file=f"{CYCLE}/places.py",
        old="        if container.rev != planned_rev:\n            return None\n",
        new="",
        by=(tests_of("tests/unit/daemon/test_commit.py"), simulation("usual")),
    ),
    Bug(
        name="records are written without guard",
        file="dorabatch/queue/store.py",
        old='CONTAINERS.c.rev < bindparam("rev"))\n'
        '    .where(CONTAINERS.c.rev == bindparam("key_rev"))\n',
        new='bindparam("key_rev") == bindparam("key_rev"))\n',
        by=(simulation("usual"), tests_of("tests/unit/daemon/test_commit.py")),
    ),
    Bug(
        name="a verdict comes from words",
        file=f"{RUNS}/start_fault.py",
        old="    return Fault.UNCLEAR if is_unclear else Fault.NODE\n",
        new='    return Fault.JOB if "no such file" in lowered else Fault.NODE\n',
        by=(tests_of("tests/unit/daemon/test_start_fault.py"),),
    ),
    Bug(
        name="the gate lets held rows pass",
        file=f"{CYCLE}/gates/held_gate.py",
        old="    is_held = number > 0\n",
        new="    is_held = number < 0\n",
        by=(HOLDS,),
    ),
    Bug(
        name="a hold of the last moment is missed",
        file=f"{CYCLE}/places.py",
        old="        if workload.start_hold is not None:\n            return None\n",
        new="",
        by=(HOLDS,),
    ),
    Bug(
        name="a held one is restarted in place",
        file=f"{RUNS}/settle.py",
        old="        is_held = workload.start_hold is not None\n",
        new="        is_held = False\n",
        by=(HOLDS, simulation("usual")),
    ),
    Bug(
        name="a limit counts half of what is held",
        file=f"{CYCLE}/ceilings.py",
        old="        milli = lengths[held.models] * held.gpu_milli\n",
        new="        milli = lengths[held.models] * held.gpu_milli // 2\n",
        by=(simulation("limited"),),
    ),
    Bug(
        name="what ended well is run again",
        file=f"{RUNS}/end_verdict.py",
        old="    return facts.exit_code == 0 or facts.oom_killed\n",
        new="    return facts.oom_killed\n",
    ),
    Bug(
        name="lost without facts",
        file=f"{RUNS}/end_verdict.py",
        old="    if facts.exit_code not in CODES_OF_A_STOP or began is None or",
        new="    if began is None or",
    ),
    Bug(
        name="a stop of dockerd is judged at once",
        file=f"{RUNS}/end_verdict.py",
        old="CODES_OF_A_STOP and age < GOING_DOWN_SECONDS\n",
        new="CODES_OF_A_STOP and False\n",
        by=(simulation("usual"), tests_of("tests/unit/daemon/test_ending.py")),
    ),
    Bug(
        name="a thread dies without a word",
        file=f"{STATE}/threads.py",
        old="        stopping.wait(pause)\n        pause = min(",
        new="        return\n        pause = min(",
        by=(tests_of("tests/unit/daemon/test_threads.py"),),
    ),
    Bug(
        name="memory keeps what was rolled back",
        file="dorabatch/db.py",
        old="        savepoint.rollback()\n        del tx.changes[before:]\n",
        new="        savepoint.rollback()\n",
    ),
    Bug(
        name="memory is told before the commit",
        file="dorabatch/db.py",
        old="        self._on_commit(tx.changes)\n        return answers",
        new="            self._on_commit(tx.changes)\n        return answers",
        by=(simulation("usual"), tests_of("tests/unit/test_db.py")),
    ),
    Bug(
        name="the board keeps what has left a node",
        file="dorabatch/queue/board.py",
        old="        if container.state is not State.QUEUED:\n"
        "            self.pending.drop(key)\n",
        new="",
    ),
    Bug(
        name="a lien is not released",
        file=f"{STATE}/charging.py",
        old="        self.post(tx, [release_of(mine[-1], at)])\n",
        new="",
        by=PAID,
    ),
    Bug(
        name="credit that is not there is spent",
        file=f"{STATE}/charging.py",
        old="        if decisive.covers(need):\n",
        new="        if decisive.covers(0):\n",
        by=(tests_of("tests/unit/daemon/test_preemption.py"), *PAID),
    ),
    Bug(
        name="a stopped trial is charged",
        file=f"{STATE}/charging.py",
        old="        if is_stopped_trial(container):\n",
        new="        if False:\n",
        by=(*TRIED, tests_of("tests/unit/daemon/test_lane.py")),
    ),
    Bug(
        name="a failure fulfils afterok",
        file="dorabatch/queue/awaited.py",
        old="    is_ok = end.outcome is Outcome.DONE\n",
        new="    is_ok = True\n",
        by=DEPENDENT,
    ),
    Bug(
        name="an end is not told to who waits",
        file=f"{RUNS}/settle.py",
        old="        tx.note(ending_of(workload_id, siblings))\n",
        new="        ending_of(workload_id, siblings)\n",
        by=DEPENDENT,
    ),
    Bug(
        name="a cancel of what is placed is lost",
        file="dorabatch/queue/transitions.py",
        old="    if container.state is State.FINISHED:\n        return container\n",
        new="    if container.state in (State.FINISHED, State.PLACED):\n"
        "        return container\n",
    ),
    Bug(
        name="a cancel loses against a requeue",
        file="dorabatch/queue/transitions.py",
        old="        if after is not AfterStop.FINISH or container.after_stop is "
        "AfterStop.FINISH:\n            return container\n        moved = replace",
        new="        if after:\n            return container\n        moved = replace",
    ),
    Bug(
        name="a log is lost",
        file=f"{RUNS}/concluder.py",
        old="        self._save_log(name, container, facts)\n"
        "        self._driver.remove(name)\n",
        new="        self._driver.remove(name)\n",
    ),
    Bug(
        name="a restart has the old number",
        file="dorabatch/queue/transitions.py",
        old="""\
        moved,
        attempt=container.attempt + 1,
        after_stop=None,
""",
        new="""\
        moved,
        attempt=container.attempt,
        after_stop=None,
""",
    ),
    Bug(
        name="use is counted twice",
        file=f"{RUNS}/settle.py",
        old="        self.usage.count_end(tx, container, now)\n",
        new="        self.usage.count_end(tx, container, now)\n" * 2,
    ),
    Bug(
        name="a foreign container is removed",
        file=f"{RUNS}/reconcile.py",
        old="        if latest is None or identity.attempt > latest:\n",
        new="        if latest is not None and identity.attempt > latest:\n",
    ),
    Bug(
        name="a GPU is given away twice",
        file=f"{CYCLE}/places.py",
        old="            if gpu.uuid not in used:\n",
        new="            if gpu.uuid not in used or len(used) > 1:\n",
    ),
    Bug(
        name="a port is given away twice",
        file=f"{CYCLE}/places.py",
        old="{port for hold in holds for port in hold.ports}\n",
        new="{port for hold in holds[:0] for port in hold.ports}\n",
        by=(
            simulation("tried", seeds="0-9"),
            tests_of("tests/unit/daemon/test_commit.py"),
        ),
    ),
    Bug(
        name="a time limit is not kept",
        file="dorabatch/daemon/timers/time_limits.py",
        old="        if limit is None or now - container.started_at <",
        new="        if limit is None or container.started_at - now <",
        by=(tests_of("tests/unit/daemon/test_time_limits.py"),),
    ),
    Bug(
        name="an event of an old boot ends a run",
        file=f"{RUNS}/concluder.py",
        old="            if facts is not None and facts.state not in ENDED_STATES:\n"
        "                return False\n",
        new="            if facts is not None and facts.state not in ENDED_STATES:\n"
        "                self._driver.stop(name, 0)\n"
        "                facts = self._driver.inspect(name)\n",
    ),
)
