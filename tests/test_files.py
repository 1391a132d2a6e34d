"""Files appear whole, and where they are meant to."""

import errno
import os
from pathlib import Path

import pytest

from kfeat.errors import InputError, expand
from kfeat.files import check_writable, write_text, written


def test_a_link_stays_one_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "real" / "file")
    for text in ("first", "second"):
        check_writable(tmp_path / "link.txt")
        write_text(tmp_path / "link.txt", text)
        assert (tmp_path / "real" / "file").read_text() == text
    assert (tmp_path / "link.txt").is_symlink()
    assert sorted(f.name for f in tmp_path.rglob("*")) == ["file", "link.txt", "real"]


def test_a_tilde_is_the_home_folder_at_the_start_only(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    for text, expected in {
        "~": "/home/me",
        "~/a": "/home/me/a",
        "./~": f"{tmp_path}/~",
        "./~nobody-here/a": f"{tmp_path}/~nobody-here/a",
        "a/~": "a/~",
    }.items():
        assert str(expand(text)) == expected == str(expand(expand(text)))
    with pytest.raises(InputError, match=r"no user of that name.*write \./~nobody-here"):
        expand("~nobody-here")


def test_a_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for write in (check_writable, lambda path: write_text(path, "")):
        with pytest.raises(InputError, match="pipe cannot be written: it is no regular file"):
            write(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("stem", ["a" * 251, "\U0001f600" * 62])
def test_a_name_may_be_as_long_as_a_files_can(tmp_path, stem):
    path = tmp_path / f"{stem}.txt"
    check_writable(path)
    write_text(path, "text")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_full_disk_is_no_bad_input(tmp_path):
    with pytest.raises(OSError, match="No space left"), written(tmp_path / "a.txt"):
        Path("/dev/full").write_text("text")
    with pytest.raises(InputError, match="cannot be written: Permission"), written(tmp_path / "b"):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert not list(tmp_path.iterdir())


def test_what_failed_leaves_what_was_there(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(TypeError):
        write_text(tmp_path / "a.txt", None)
    assert (tmp_path / "a.txt").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
