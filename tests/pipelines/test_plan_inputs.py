"""What a dry run says of its inputs: members of containers count with these, and the web is not asked."""

from pathlib import Path

from seamlessalign.pipelines.inputs import cut_into_shards, find_recordings
from seamlessalign.pipelines.plan import _described
from tests.ground.test_sources import write_tar


def test_members_count_once_and_the_web_is_not_asked(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", {"1.wav": bytes(1 << 20), "2.wav": bytes(1 << 20)})
    (tmp_path / "b.wav").write_bytes(bytes(1 << 19))
    (tmp_path / "list.txt").write_text("b.wav\nhttp://127.0.0.1:1/c.wav\nnone.wav\n")
    shards = cut_into_shards(find_recordings([tar, str(tmp_path / "list.txt")]), 2)
    assert _described(shards) == "4 files, 2.5 MiB, in 3 shards, 1 cannot be found"
