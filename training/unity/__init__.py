"""UnitY: one model that turns speech or text into text, and this text's hidden states into units of speech."""
