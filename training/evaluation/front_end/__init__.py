"""How well languages are told, and where speech begins and ends."""
