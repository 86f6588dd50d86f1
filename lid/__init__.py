"""Language identification of speech and of text."""

from seamlessalign.label_measures import UNKNOWN
from seamlessalign.lid.speech import SpeechLid, Stretch, calibration_of, load_speech_lid
from seamlessalign.lid.text import TextLid, load_text_lid

__all__ = ["UNKNOWN", "SpeechLid", "Stretch", "TextLid", "calibration_of", "load_speech_lid", "load_text_lid"]
