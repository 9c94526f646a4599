"""Runnable examples, each short and on real input."""
