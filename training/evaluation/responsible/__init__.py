"""Added toxicity, and gender."""
