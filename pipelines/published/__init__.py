"""Corpora that are published as metadata: their lines, read and written, and the corpus rebuilt from them."""
