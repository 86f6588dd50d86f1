"""Systems whose outputs are read, and those that are run."""
