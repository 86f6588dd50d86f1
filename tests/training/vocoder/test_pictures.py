"""Pictures of spectrograms: what other programs see in them."""

import base64
import io
import re

import numpy as np
import pytest

from seamlessalign.training.vocoder.pictures import mel_svg, png


def test_a_png_is_the_picture() -> None:
    image = pytest.importorskip("PIL.Image", reason="needs pillow")
    grey = np.random.default_rng(0).integers(0, 256, (7, 13)).astype(np.uint8)
    found = image.open(io.BytesIO(png(grey)))
    assert found.mode == "L" and np.array_equal(np.asarray(found), grey)


def test_low_tones_are_below_and_loud_ones_dark() -> None:
    image = pytest.importorskip("PIL.Image", reason="needs pillow")
    mel = np.full((80, 5), -10.0, np.float32)
    mel[3, 2] = 2.0
    document = mel_svg([("true", mel), ("made <by us>", mel - 1)], "Step 3", 0.08)
    assert document.startswith("<svg") and "made &lt;by us&gt;" in document and "Step 3" in document
    pictures = re.findall(r"base64,([^\"]+)", document)
    first = np.asarray(image.open(io.BytesIO(base64.b64decode(pictures[0]))))
    assert len(pictures) == 2 and first.shape == (80, 5)
    assert first[76, 2] == 0 and first[0, 0] > 200
