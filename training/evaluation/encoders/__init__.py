"""How well encoders find translations, and what was mined with them."""
