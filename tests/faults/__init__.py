"""A busy real cluster under random faults, and a judge of what comes of it."""
