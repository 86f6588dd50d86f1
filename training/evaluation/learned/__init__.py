"""Measures that models grade by: BLASER and COMET."""
