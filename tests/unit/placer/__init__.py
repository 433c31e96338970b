"""Unit tests of the placer."""
