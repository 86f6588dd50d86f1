"""Pages of one file that show an evaluation, or a comparison of two."""
