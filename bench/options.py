"""Bounds of the benches' options; reads nothing and decides nothing else."""

from dorabatch.errors import Refused


def refuse_below(least: int, **given: int | None) -> None:
    """Raise Refused for the first number, by its option's name, that is too small."""
    for name, number in given.items():
        if number is not None and number < least:
            option = name.replace("_", "-")
            raise Refused(f"--{option} {number}: give {least} or more")
