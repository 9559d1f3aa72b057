"""Atomic writing, and errors in one line."""

import os
import resource
import stat

import pytest

from jaxdodge.files import atomic_open, atomic_write, error_line, one_line


@pytest.mark.parametrize(
    ("content", "expected"), [("ä\r\nb\n", "ä\r\nb\n".encode()), (b"\x00\xff", b"\x00\xff")]
)
def test_a_file_is_written_and_replaced(tmp_path, content, expected):
    path = tmp_path / "file"
    for before in (None, b"before"):
        if before:
            path.write_bytes(before)
        atomic_write(path, content)
        assert path.read_bytes() == expected
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "file", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_changes_nothing(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("before")

    def fail() -> None:
        with atomic_open(path) as file:
            file.write("after")
            assert path.read_text() == "before"
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_changes_nothing(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            atomic_write(path, "more than ten characters")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("target")
    link.symlink_to(target)
    atomic_write(link, "new")
    assert not link.is_symlink()
    assert (target.read_text(), link.read_text()) == ("target", "new")


def test_devices_and_folders_are_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(OSError, match="not a regular file") as refused:
            atomic_write(path, "")
        assert refused.value.filename == str(path)
    assert list(tmp_path.iterdir()) == [pipe]


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError) as refused:
        atomic_write(tmp_path / "absent" / "file", "")
    assert refused.value.filename == str(tmp_path / "absent" / "file")


def test_one_line():
    assert one_line(" a\n\tb  c ") == "a b c"
    assert one_line("abcdef", 6) == "abcdef"
    assert one_line("abcdefg", 6) == "abcdef ..."


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("a\nb"), "a b"),
        (ValueError(), "ValueError"),
        (OSError(28, "No space left on device", "file"), "No space left on device"),
        (OSError("without a number"), "without a number"),
    ],
)
def test_an_error_is_one_line(error, text):
    assert error_line(error) == text
