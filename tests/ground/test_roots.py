"""What lies below a root: against what the file system itself says, and against every way to write an address."""

import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seamlessalign.roots import outside


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """within/in/a.wav, out/b.wav, and links between the two."""
    top = tmp_path_factory.mktemp("tree")
    for name in ("within/in/a.wav", "out/b.wav", "within2/c.wav"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(b"x")
    (top / "within/file").symlink_to(top / "out/b.wav")
    (top / "within/folder").symlink_to("../out")
    (top / "within/fine").symlink_to("in")
    (top / "within/circle").symlink_to("circle")
    (top / "within/in/up").symlink_to("/")
    (top / "back").symlink_to("within/in")
    return top


@pytest.mark.parametrize(
    "path",
    ["within/in/a.wav", "within/fine/a.wav", "back/a.wav", "within/none.wav", "within/folder/../within/in/a.wav"],
)
def test_what_lies_below(tree: Path, path: str) -> None:
    for root in (
        f"{tree}/within",
        f"{tree}/within/",
        f"file://{tree}/within",
        f"{tree}/out/../within",
        f"FILE://{tree}/within",
    ):
        for uri in (f"{tree}/{path}", f"file://{tree}/{path}"):
            assert not outside(uri, root)


@pytest.mark.parametrize(
    "path",
    [
        "out/b.wav",
        "within2/c.wav",
        "within/../out/b.wav",
        "within/file",
        "within/folder/b.wav",
        "within/in/up/etc/passwd",
        "within/circle",
        "within/in/../../out/b.wav",
        "within\0/a.wav",
    ],
)
def test_what_does_not(tree: Path, path: str) -> None:
    assert outside(f"{tree}/{path}", f"{tree}/within")
    assert outside(f"File://{tree}/{path}", f"{tree}/within")


def test_a_link_may_be_the_root(tree: Path) -> None:
    assert not outside(f"{tree}/within/in/a.wav", f"{tree}/back") and outside(f"{tree}/within/file", f"{tree}/back")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.sampled_from([".", "..", "within", "in", "out", "fine", "folder", "up", "a.wav", "b.wav"]), max_size=8)
)
def test_paths_against_the_file_system(tree: Path, parts: list[str]) -> None:
    """Where the kernel opens a file, its own word for where that is decides."""
    path = "/".join([str(tree), *parts])
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        real = str(Path(f"/proc/self/fd/{descriptor}").readlink())
    finally:
        os.close(descriptor)
    root = os.path.realpath(tree / "within")
    assert outside(path, f"{tree}/within") == (not f"{real}/".startswith(f"{root}/"))


@pytest.mark.parametrize("root", ["s3://bucket/in", "s3://bucket/in/"])
def test_object_stores(root: str) -> None:
    assert not outside("s3://bucket/in/a.wav", root) and not outside("s3://bucket/in/b/%2e%2e/c.wav", root)
    assert not outside("s3://bucket/in", root)  # the folder itself, when it is an input
    for uri in (
        "s3://bucket/in2/a.wav",
        "s3://bucket/a.wav",
        "s3://bucket/in/../a.wav",
        "s3://Bucket/in/a.wav",
        "s3://bucket2/in/a.wav",
        "gs://bucket/in/a.wav",
        "/bucket/in/a.wav",
        "file:///s3://bucket/in/a.wav",
    ):
        assert outside(uri, root)


@pytest.mark.parametrize("root", ["https://data.org/in", "https://data.org:443/in/", "HTTPS://DATA.org/in"])
def test_the_web(root: str) -> None:
    assert not outside("https://data.org/in/a.wav?x=../..#y", root)
    assert not outside("HTTPS://Data.Org:443/in/a.wav", root)
    for uri in (
        "https://data.org/a.wav",
        "https://data.org/in/../a.wav",
        "https://data.org/in/%2e%2e/a.wav",
        "https://data.org/in/%252e%252e/a.wav",
        "https://data.org/in/..%2fa.wav",
        "https://data.org/in/..\\a.wav",
        "https://data.org/in/.%2e%5ca.wav",
        "https://data.org.evil.org/in/a.wav",
        "https://data.org@evil.org/in/a.wav",
        "https://data.org\\@evil.org/in/a.wav",
        "https://data.org:8443/in/a.wav",
        "http://data.org/in/a.wav",
        "https://evil.org/?https://data.org/in/a.wav",
        "https://evil.org/#/in/a.wav",
    ):
        assert outside(uri, root), uri


def test_a_whole_host_or_bucket() -> None:
    assert not outside("https://data.org/a.wav", "https://data.org") and outside(
        "https://data.org2/a", "https://data.org"
    )
    assert not outside("s3://bucket/a.wav", "s3://bucket/") and outside("s3://bucket/../a", "s3://bucket/")


@given(st.lists(st.sampled_from(["..", ".", "a", "in", "b.wav"]), min_size=1), st.integers(0, 3))
def test_addresses_that_lead_up_are_known_however_often_they_are_quoted(parts: list[str], times: int) -> None:
    path = "/".join(parts)
    for _ in range(times):
        path = quote(path, safe="").replace(".", "%2E")
    assert outside(f"https://data.org/in/{path}", "https://data.org/in") == bool({".", ".."} & set(parts))
