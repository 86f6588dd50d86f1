"""SONAR (Duquenne et al. 2023): texts of 200 languages and speech of 58 in one space of 1024 dimensions.

The published checkpoints run on transformers' classes, without fairseq2; `docs/sonar.md` says how to use them.
"""

from seamlessalign.embedders.sonar.decoder import SonarTextDecoder, load_decoder
from seamlessalign.embedders.sonar.speech import SonarSpeechEmbedder, SonarSpeechEncoder
from seamlessalign.embedders.sonar.text import SonarTextEmbedder, SonarTextEncoder

__all__ = [
    "SonarSpeechEmbedder",
    "SonarSpeechEncoder",
    "SonarTextDecoder",
    "SonarTextEmbedder",
    "SonarTextEncoder",
    "load_decoder",
]
