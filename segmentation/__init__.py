"""From a recording to the spans that may be sentences, and from text to sentences."""

from seamlessalign.segmentation.spans import Spans, over_segment
from seamlessalign.segmentation.vad import detect_speech

__all__ = ["Spans", "detect_speech", "over_segment"]
