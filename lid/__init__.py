"""Language identification of speech and of text."""

from seamlessalign.lid.speech import SpeechLid, load_speech_lid
from seamlessalign.lid.text import TextLid, load_text_lid

__all__ = ["SpeechLid", "TextLid", "load_speech_lid", "load_text_lid"]
