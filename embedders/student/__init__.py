"""Speech encoders taught by a text embedder: a backbone's frames, pooled over spans into rows of the text's space.

`Student.load` opens one that was trained; `frames` of its backbone are made once for each recording, `pool` makes
rows of any spans out of them. Importing this loads torch.
"""

from seamlessalign.embedders.student.config import BackboneConfig, PoolerConfig, StudentConfig
from seamlessalign.embedders.student.frames import Backbone, Frames
from seamlessalign.embedders.student.model import Student
from seamlessalign.embedders.student.pooler import POOLERS, Pooler, build_pooler

__all__ = [
    "POOLERS",
    "Backbone",
    "BackboneConfig",
    "Frames",
    "Pooler",
    "PoolerConfig",
    "Student",
    "StudentConfig",
    "build_pooler",
]
