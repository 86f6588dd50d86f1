"""SeamlessAlign: build speech-translation corpora from raw audio and raw text."""

__version__ = "0.1.0"
