"""What ffmpeg adds: formats against lossless originals, and everything that an outside program can do wrong."""

import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from seamlessalign import audio
from seamlessalign.audio import Decoding
from seamlessalign.errors import UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from tests.ground.loopback import serving

RATE = 44_100
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg: apt install ffmpeg")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds of two voices of tones, (num_samples, 2) at 44.1 kHz, 16 bit."""
    time_ = np.arange(RATE * 5) / RATE
    pitch = np.stack([300 + 60 * np.sin(3 * time_), 500 + 90 * np.sin(2 * time_)], axis=1)
    samples = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch, axis=0) / RATE)
    path = tmp_path_factory.mktemp("ffmpeg") / "original.wav"
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    return path


def _made(original: Path, path: Path, *arguments: str) -> Path:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(original), *arguments, f"file:{path}"]
    subprocess.run(command, check=True)
    return path


def _picture(original: Path, path: Path, *arguments: str) -> Path:
    """The same with a moving picture."""
    return _made(
        original, path, "-f", "lavfi", "-i", "testsrc=d=5:s=64x64:r=5", "-map", "1:v", "-map", "0:a", *arguments
    )


def _reason(path: Path, decoding: Decoding = audio.DEFAULT_DECODING) -> UnreadableError:
    with pytest.raises(UnreadableError) as caught:
        audio.decode(path, decoding)
    assert "\n" not in str(caught.value)
    assert repr(str(path)) in str(caught.value)
    return caught.value


def _fake(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program of the name ffmpeg, first on the path."""
    program = folder / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """Enough of an mp4 to be taken for one."""
    path = tmp_path / "a film.mp4"
    path.write_bytes(b"\0\0\0\x18ftypisom" + bytes(1000))
    return path


@needs_ffmpeg
@pytest.mark.parametrize(
    "arguments",
    [
        "alac.m4a -c:a alac",
        "flac.mkv -c:a flac",
        "pcm.mov -c:a pcm_s16le",
        "wavpack.wv -c:a wavpack",
        "tta.tta -c:a tta",
        "pcm.avi -c:a pcm_s16le",
    ],
)
def test_lossless_formats_equal_the_original(original: Path, tmp_path: Path, arguments: str) -> None:
    name, *codec = arguments.split()
    path = _made(original, tmp_path / name, *codec)
    expected = audio.decode(original)
    decoded = audio.decode(path)
    assert (decoded.original_sample_rate, decoded.channels) == (RATE, 2)
    np.testing.assert_array_equal(decoded.samples, expected.samples)
    for block_seconds in (0.013, 0.7):
        np.testing.assert_array_equal(np.concatenate(list(audio.stream(path, block_seconds))), expected.samples)
    spans = [(0, 100), (30_000, 45_001), (79_999, 80_000)]
    for piece, (start, end) in zip(audio.cut(path, spans), spans, strict=True):
        np.testing.assert_array_equal(piece, expected.samples[start:end])


@needs_ffmpeg
@pytest.mark.parametrize(
    "arguments",
    [
        "aac.m4a -c:a aac",
        "aac.aac -c:a aac -f adts",
        "opus.webm -c:a libopus",
        "vorbis.mka -c:a libvorbis",
        "wma.wma -c:a wmav2",
        "ac3.ac3 -c:a ac3",
        "aac.ts -c:a aac -f mpegts",
        "aac.flv -c:a aac",
        "adpcm.wav -c:a adpcm_swf",
        "mp3.mp4 -c:a mp3",
    ],
)
def test_lossy_formats_sound_like_the_original(original: Path, tmp_path: Path, arguments: str) -> None:
    name, *codec = arguments.split()
    decoded = audio.decode(_made(original, tmp_path / name, *codec))
    expected = audio.decode(original).samples
    assert abs(len(decoded.samples) - len(expected)) < 0.2 * SAMPLE_RATE
    assert decoded.channels == 2
    assert _most_alike(decoded.samples, expected) > 0.98


def _most_alike(one: NDArray[np.float32], two: NDArray[np.float32]) -> float:
    """The largest correlation of two signals over delays."""
    size = 1 << (len(one) + len(two)).bit_length()
    product = np.fft.irfft(np.fft.rfft(one, size) * np.fft.rfft(two, size).conj())
    return float(product.max() / np.sqrt(np.square(one, dtype=float).sum() * np.square(two, dtype=float).sum()))


@needs_ffmpeg
def test_films_have_sound_and_silent_films_do_not(original: Path, tmp_path: Path) -> None:
    film = _picture(original, tmp_path / "it's a\nfilm;.mp4", "-c:a", "alac", "-c:v", "mpeg4")
    np.testing.assert_array_equal(audio.decode(film).samples, audio.decode(original).samples)
    silent = _picture(original, tmp_path / "silent.mkv", "-an", "-c:v", "mpeg4")
    assert _reason(silent).reason == "not_audio"


@needs_ffmpeg
def test_channels(original: Path, tmp_path: Path) -> None:
    path = _made(original, tmp_path / "alac.m4a", "-c:a", "alac")
    assert audio.num_channels(path) == audio.num_channels(original) == 2
    both = [audio.decode(path, Decoding(channel=channel)).samples for channel in (0, 1)]
    for channel, samples in enumerate(both):
        np.testing.assert_array_equal(samples, audio.decode(original, Decoding(channel=channel)).samples)
    assert np.abs(both[0] - both[1]).max() > 0.1
    np.testing.assert_allclose((both[0] + both[1]) / 2, audio.decode(path).samples, rtol=0, atol=1e-6)
    assert _reason(path, Decoding(channel=2)).reason == "no_channel"


@needs_ffmpeg
@pytest.mark.parametrize("arguments", ["aac.m4a -c:a aac -movflags faststart", "opus.webm -c:a libopus"])
def test_what_breaks_off_is_truncated(original: Path, tmp_path: Path, arguments: str) -> None:
    name, *codec = arguments.split()
    whole = _made(original, tmp_path / name, *codec).read_bytes()
    path = tmp_path / f"cut.{name}"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert _reason(path).reason == "truncated"


@needs_ffmpeg
def test_garbage_behind_a_magic_is_not_audio(container: Path) -> None:
    assert _reason(container).reason == "not_audio"
    container.write_bytes(b"\x1aE\xdf\xa3" + np.random.default_rng(0).bytes(100_000))
    assert _reason(container).reason == "not_audio"


@needs_ffmpeg
def test_limits_hold_for_what_ffmpeg_decodes(original: Path, tmp_path: Path) -> None:
    path = _made(original, tmp_path / "alac.m4a", "-c:a", "alac")
    assert _reason(path, Decoding(max_seconds=4.9)).reason == "too_long"
    assert len(audio.decode(path, Decoding(max_seconds=5.0)).samples) == 80_000


def test_without_ffmpeg_it_is_named(container: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(container.parent))
    error = _reason(container)
    assert error.reason == "needs_ffmpeg" and "apt install ffmpeg" in error.detail
    monkeypatch.undo()
    error = _reason(container, Decoding(ffmpeg=False))
    assert error.reason == "needs_ffmpeg" and "switched off" in error.detail


def test_it_is_not_started_for_what_may_be_a_playlist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake(tmp_path, monkeypatch, f"touch {tmp_path}/started")
    for name, text in {
        "a.m3u8": "#EXTM3U\n#EXTINF:10,\n/etc/passwd\n",
        "b.mp4": "ffconcat version 1.0\nfile /etc/passwd\n",
        "c.mkv": "<MPD><Period/></MPD>\n",
    }.items():
        (tmp_path / name).write_text(text * 100)
        assert _reason(tmp_path / name).reason == "not_audio"
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("when", ["before the header", "in the middle"])
def test_one_that_hangs_is_killed_with_its_children(
    container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    header = r"printf '.snd\000\000\000\030\377\377\377\377\000\000\000\006\000\000\076\200\000\000\000\001'"
    some = f"{header}; head -c 6400 /dev/zero" if when == "in the middle" else ":"
    _fake(tmp_path, monkeypatch, f"trap '' TERM INT; {some}; sleep 1000 & echo $$ $! > {tmp_path}/ids; wait")
    begun = time.monotonic()
    error = _reason(container, Decoding(timeout_seconds=1.0))
    assert error.reason == "timeout" and "1 s" in error.detail
    assert time.monotonic() - begun < 60  # and not a thousand
    for process in (tmp_path / "ids").read_text().split():
        _wait_for_end(int(process))


def _wait_for_end(process: int) -> None:
    def ended() -> bool:
        try:
            return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    _wait_for(ended)


def _goes_with_others(process: int) -> bool:
    """Whether an end of a pipe of a process tells others, by a signal, that it is gone."""
    flags = []
    for file in Path(f"/proc/{process}/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            flags += re.findall(r"^flags:\s*(\d+)", file.read_text(), re.MULTILINE)
    return any(int(octal, 8) & os.O_ASYNC for octal in flags)


def _wait_for(moment: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not moment():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.01)


def test_it_is_killed_when_nobody_reads_on(container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = r"printf '.snd\000\000\000\030\377\377\377\377\000\000\000\006\000\000\076\200\000\000\000\001'"
    _fake(tmp_path, monkeypatch, f"echo $$ > {tmp_path}/ids; {header}; cat /dev/zero")
    blocks = audio.stream(container, 0.1)
    assert not next(blocks).any()
    blocks.close()  # type: ignore[attr-defined]
    _wait_for_end(int((tmp_path / "ids").read_text()))
    assert _reason(container, Decoding(max_seconds=3600)).reason == "too_long"  # it never ends


_DECODE = "import sys, pathlib; from seamlessalign import audio; audio.decode(pathlib.Path(sys.argv[1]))"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
@pytest.mark.parametrize("where", ["in its first thread", "in another thread"])
def test_one_that_hangs_goes_with_a_worker_that_is_killed(
    container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    _fake(tmp_path, monkeypatch, f"trap '' TERM INT HUP IO; sleep 1000 & echo $$ $! > {tmp_path}/ids; wait")
    decode = _DECODE
    if where == "in another thread":
        decode = f"import threading; threading.Thread(target=exec, args=({decode!r}, globals())).start()"
    worker = subprocess.Popen([sys.executable, "-c", decode, str(container)], cwd=Path(__file__).parents[2])
    try:
        _wait_for((tmp_path / "ids").exists)
        _wait_for(lambda: len((tmp_path / "ids").read_text().split()) == 2)
        _wait_for(lambda: _goes_with_others(worker.pid))  # on a busy machine that comes behind what its child does
    finally:
        worker.kill()
        worker.wait()
    for process in (tmp_path / "ids").read_text().split():
        _wait_for_end(int(process))


@needs_ffmpeg
def test_it_outlives_the_thread_that_started_it(original: Path, tmp_path: Path) -> None:
    """As where one thread of a pool opens a recording and another reads on."""
    path = _made(original, tmp_path / "alac.m4a", "-c:a", "alac")
    blocks = audio.stream(path, 0.1)
    parts = []
    thread = threading.Thread(target=lambda: parts.append(next(blocks)))
    thread.start()
    thread.join()
    parts += list(blocks)
    np.testing.assert_array_equal(np.concatenate(parts), audio.decode(original).samples)


def _open_files() -> list[str]:
    return sorted(path.name for path in Path("/dev/fd").iterdir())


def test_nothing_is_left_open(container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake(tmp_path, monkeypatch, "exit 1")
    open_before = _open_files()
    for _ in range(3):
        assert _reason(container).reason == "not_audio"
    (tmp_path / "bin" / "ffmpeg").write_text("#!/nowhere/at/all\n")
    assert _reason(container).reason == "needs_ffmpeg"
    assert _open_files() == open_before


def test_it_has_limits(container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake(tmp_path, monkeypatch, 'sleep 0.3; echo "limits $(ulimit -t) $(ulimit -v) $(ulimit -f)" >&2; exit 1')
    error = _reason(container, Decoding(timeout_seconds=30))
    assert error.reason == "not_audio"
    assert f"limits 31 {2 << 20} " in error.detail  # seconds, KiB


def test_what_it_says_is_told(container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake(tmp_path, monkeypatch, "echo '[mov @ 0x55] one' >&2; echo '[mov @ 0x55] moov atom\tnot found' >&2; exit 1")
    assert _reason(container).detail.endswith("ffmpeg stops: moov atom not found")
    (tmp_path / "bin" / "ffmpeg").write_text("#!/bin/sh\nkill -SEGV $$\n")
    assert _reason(container).detail.endswith("ffmpeg stops: signal 11")
    (tmp_path / "bin" / "ffmpeg").write_text("#!/nowhere/at/all\n")
    assert _reason(container).reason == "needs_ffmpeg"


def test_what_is_not_samples_is_told(container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake(tmp_path, monkeypatch, "head -c 100000 /dev/urandom")
    assert _reason(container).reason == "not_audio"


@pytest.fixture
def secret(original: Path, tmp_path: Path) -> Path:
    """A film that others must not make ffmpeg read: uncompressed, its samples before its index."""
    return _made(original, tmp_path / "secret.mov", "-c:a", "pcm_s16be")


@needs_ffmpeg
class TestFilesThatNameOthers:
    """Playlists, scripts and references: ffmpeg by itself follows them, here nothing does."""

    def _texts(self, path: Path, url: str) -> dict[str, str]:
        playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"
        return {
            "hls of a file": playlist.format(f"file://{path}"),
            "hls of the web": playlist.format(f"{url}/a.ts"),
            "hls of passwords": playlist.format("file:///etc/passwd"),
            "concat": f"ffconcat version 1.0\nfile '{path}'\n",
            "dash": f"<?xml version='1.0'?><MPD><Period><BaseURL>{url}/</BaseURL></Period></MPD>",
            "svg": f"<svg xmlns:x='http://www.w3.org/1999/xlink'><image x:href='{url}/a.png'/></svg>",
            "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
            "ffmetadata": ";FFMETADATA1\ntitle=a\n",
            "pls": f"[playlist]\nFile1={url}/a.mp3\nNumberOfEntries=1\n",
        }

    def test_ffmpeg_by_itself_reads_what_they_name(self, secret: Path, tmp_path: Path) -> None:
        """So that the tests below have something to prevent."""
        with serving() as server:
            texts = self._texts(secret, f"http://127.0.0.1:{server.server_port}")
            (tmp_path / "a.m3u8").write_text(texts["hls of the web"])
            (tmp_path / "a.ffconcat").write_text(texts["concat"])
            everything = ["-protocol_whitelist", "file,http,tcp,crypto,data"]
            _decoded_by_ffmpeg(tmp_path / "a.m3u8", *everything, "-f", "hls")
            samples = _decoded_by_ffmpeg(tmp_path / "a.ffconcat", "-f", "concat", "-safe", "0")
            assert server.asked and len(samples) > 1000

    @pytest.mark.parametrize("suffix", [".mp4", ".webm", ".m3u8", ".mov", ".wav", ".ts", ".svg", ".g722"])
    def test_texts_under_any_name(self, secret: Path, tmp_path: Path, suffix: str) -> None:
        with serving() as server:
            for kind, text in self._texts(secret, f"http://127.0.0.1:{server.server_port}").items():
                path = tmp_path / f"{kind}{suffix}"
                path.write_text(text)
                if suffix == ".g722":  # raw sound without a header: any bytes are sound, of this file and no other
                    assert len(audio.decode(path).samples) == 2 * len(text)
                else:
                    assert _reason(path).reason == "not_audio"
        assert server.asked == []

    @pytest.mark.parametrize(
        "magic",
        [b"\0\0\0\x18ftypisom", b"\x1aE\xdf\xa3", b"FLV\x01", b"#!AMR\n", b"RIFF\xff\0\0\0AVI ", b"\x0bw", b"wvpk"],
    )
    def test_texts_behind_the_magic_of_another(self, secret: Path, tmp_path: Path, magic: bytes) -> None:
        with serving() as server:
            for text in self._texts(secret, f"http://127.0.0.1:{server.server_port}").values():
                path = tmp_path / "a.mp4"
                path.write_bytes(magic + b"\n" + text.encode() * 20)
                assert _reason(path).reason in ("not_audio", "truncated")
        assert server.asked == []

    def test_references_of_films(self, secret: Path, tmp_path: Path) -> None:
        """A film without samples of its own whose index says that they lie in another file."""
        path = tmp_path / "film.mov"
        path.write_bytes(_referring(secret.read_bytes(), str(secret)))
        followed = _decoded_by_ffmpeg(path, "-enable_drefs", "1", "-use_absolute_path", "1")
        assert followed == _decoded_by_ffmpeg(secret) and any(followed)
        try:
            samples = audio.decode(path).samples
        except UnreadableError:
            return
        assert not samples.any()  # it read the silence that is there

    def test_it_is_told_no_secrets(self, container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-hunter2")
        _fake(tmp_path, monkeypatch, "env > " + str(tmp_path / "environment"))
        _reason(container)
        told = (tmp_path / "environment").read_text()
        assert "PATH=" in told and "hunter2" not in told


def _decoded_by_ffmpeg(path: Path, *options: str) -> bytes:
    command = ["ffmpeg", "-nostdin", "-v", "error", *options, "-i", f"file:{path}", "-f", "s16be", "pipe:1"]
    return subprocess.run(command, capture_output=True).stdout


def _referring(film: bytes, to: str) -> bytes:
    """A film of QuickTime whose samples are zeros, and whose reference to itself is one to another file."""
    start = film.index(b"dref") - 4
    size = int.from_bytes(film[start : start + 4], "big")
    target = to.encode()
    alias = bytes(10) + bytes([1]) + b"/".ljust(27, b"\0") + bytes(12) + bytes([1]) + b"x".ljust(63, b"\0") + bytes(16)
    alias += b"\0\1\0\1" + bytes(16) + (2).to_bytes(2, "big") + len(target).to_bytes(2, "big") + target
    alias += bytes(len(target) % 2) + b"\xff\xff\0\0"
    entry = (len(alias) + 12).to_bytes(4, "big") + b"alis" + bytes(4) + alias
    made = b"dref" + bytes(4) + (1).to_bytes(4, "big") + entry
    longer = len(made) + 4 - size
    whole = bytearray(film[:start] + (len(made) + 4).to_bytes(4, "big") + made + film[start + size :])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):  # what it lies in grows with it
        at = whole.rindex(name, 0, start) - 4
        whole[at : at + 4] = (int.from_bytes(whole[at : at + 4], "big") + longer).to_bytes(4, "big")
    samples = whole.index(b"mdat") + 4
    end = whole.index(b"moov") - 4
    whole[samples:end] = bytes(end - samples)
    return bytes(whole)
