"""From a recording to the spans that may be sentences, and from text to sentences."""

from seamlessalign.segmentation.spans import Spans, over_segment
from seamlessalign.segmentation.vad import detect_speech, detect_speech_in

__all__ = ["Spans", "detect_speech", "detect_speech_in", "over_segment"]
