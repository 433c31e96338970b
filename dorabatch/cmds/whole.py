"""A whole number as an option's value; a wrong one is told with what is allowed.

Reads one value and never asks the daemon.
"""

from typing import Any

import click


class Whole(click.IntRange):
    """A whole number from a least to a greatest, both allowed."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """The number; click's own words show the type and not what is allowed."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            allowed = f"a whole number from {self.min} to {self.max}"
            self.fail(f"{str(value)!r} (allowed: {allowed})", param, ctx)
