"""Bugs that are planted by hand, to see whether the tests find them."""
