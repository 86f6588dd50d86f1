"""Opening recordings as a run has it: what has left the root since it was found is not opened."""

from pathlib import Path

import pytest

from seamlessalign.config import DecodeConfig
from seamlessalign.errors import UnreadableError
from seamlessalign.pipelines.recordings import open_recording
from tests.ground.test_sources import write_tar


def test_what_leaves_the_root_meanwhile_is_not_opened(tmp_path: Path) -> None:
    root = tmp_path / "root"
    tar = write_tar(root / "a.tar", {"a.wav": b"inside"})
    (root / "b.wav").write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(b"outside")
    write_tar(tmp_path / "out.tar", {"a.wav": b"outside"})
    uris = [f"{tar}::a.wav", f"{root}/b.wav", f"{root}/b.wav#channel=0", f"file://{root}/b.wav"]
    for uri in uris:
        with open_recording(uri, DecodeConfig(), str(root)) as (path, _):
            assert path.read_bytes() == b"inside"
    for name, target in (("a.tar", "out.tar"), ("b.wav", "secret")):
        (root / name).unlink()
        (root / name).symlink_to(tmp_path / target)
    for uri in uris:
        with pytest.raises(UnreadableError) as caught, open_recording(uri, DecodeConfig(), str(root)):
            pass
        assert caught.value.reason == "outside_root"
        with open_recording(uri, DecodeConfig()) as (path, _):  # where no root is set
            assert path.read_bytes() == b"outside"
