"""Plain loops that say what the vectorised code must answer."""
