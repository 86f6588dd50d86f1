"""Choosing what is good enough: what a curator sees of a run, hears, labels and selects."""
