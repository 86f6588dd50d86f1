"""Noise in what is translated, and several speakers who say the same."""
