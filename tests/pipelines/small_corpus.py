"""A small corpus with real translations spoken by espeak-ng, and the program run on it as a user would."""

import ctypes.util
import hashlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import yaml
from numpy.typing import NDArray

from seamlessalign.pipelines.demo_espeak import Espeak
from seamlessalign.rows import SAMPLE_RATE

Samples = NDArray[np.float32]

HOUSE = Path(__file__).parents[2]
VOICES = {"fra": "fr", "spa": "es", "ita": "it"}
TABLES = ("recordings", "segments", "sentences", "pairs", "corpus")
STAGES = ("speech", "text", "mine", "corpus")

# one row for each sentence: what it says in English, French and Spanish
SENTENCES = [
    ("The train to the city leaves at nine.", "Le train pour la ville part à neuf heures.", "El tren sale a las nueve."),
    ("My sister works in a big hospital.", "Ma sœur travaille dans un grand hôpital.", "Mi hermana trabaja en un hospital."),
    ("The children are playing in the garden.", "Les enfants jouent dans le jardin.", "Los niños juegan en el jardín."),
    ("It will rain tomorrow in the mountains.", "Il va pleuvoir demain en montagne.", "Mañana va a llover en la montaña."),
    ("We ate fish and bread yesterday.", "Hier nous avons mangé du poisson et du pain.", "Ayer comimos pescado y pan."),
    ("The museum is closed on Monday.", "Le musée est fermé le lundi.", "El museo está cerrado los lunes."),
]
