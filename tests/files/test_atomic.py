"""What is written is complete, or was not written at all."""

from __future__ import annotations

import os

import pytest

from lla_func import files


class Interrupted(BaseException):
    """As KeyboardInterrupt, which would end the test run."""


def interrupted_block(path):
    with files.replacing(path) as file:
        file.write(b"half of the n")
        raise Interrupted


def interrupted_rename(path):
    with pytest.MonkeyPatch.context() as patch:

        def fail(*_):
            raise Interrupted

        patch.setattr(os, "replace", fail)
        files.save_json(path, {"new": 1})


@pytest.mark.parametrize("interrupt", [interrupted_block, interrupted_rename])
@pytest.mark.parametrize("old", [b"old content", None])
def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path, interrupt, old):
    path = tmp_path / "result.json"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(Interrupted):
        interrupt(path)
    assert [file.name for file in tmp_path.iterdir()] == (["result.json"] if old else [])
    assert old is None or path.read_bytes() == old


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "result.json"
    path.write_bytes(b"old content")
    with files.replacing(path) as file:
        file.write(b"new content")
        file.flush()
        assert path.read_bytes() == b"old content"  # what would be left if the process were killed here
    assert path.read_bytes() == b"new content"


def test_files_follow_the_umask_and_symbolic_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "elsewhere" / "real.json")
    before = os.umask(0o027)
    try:
        files.save_json(link, {})
    finally:
        os.umask(before)
    assert link.is_symlink()
    assert (tmp_path / "elsewhere" / "real.json").stat().st_mode & 0o777 == 0o640


def test_lines_are_added_whole(tmp_path):
    path = tmp_path / "log.txt"
    for line in ("first", "zweite \u00fc"):
        assert files.append_line(path, line) == path
    assert path.read_text(encoding="utf-8") == "first\nzweite \u00fc\n"
    with pytest.raises(ValueError, match="line break"):
        files.append_line(path, "two\nlines")
