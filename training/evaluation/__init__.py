"""The evaluator: every measure with its exact settings, an interval, and nothing left out in silence."""
