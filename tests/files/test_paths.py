"""Folders are proven to be writable, and names to be names of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lla_func import files


def test_a_writable_directory_is_made_with_its_parents_and_left_empty(tmp_path):
    made = files.writable_directory("viz_dir", tmp_path / "a" / "b")
    assert made == files.writable_directory("viz_dir", str(made))
    assert made.is_dir()
    assert not any(made.iterdir())


def test_the_home_directory_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.writable_directory("viz_dir", "~/results") == tmp_path / "results"


@pytest.mark.parametrize("under", ["", "deeper"])
def test_a_directory_that_cannot_be_is_refused_by_argument_path_and_reason(tmp_path, under):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(ValueError, match=r"viz_dir='.*file.*' is not a directory that can be written \(.+\)"):
        files.writable_directory("viz_dir", tmp_path / "file" / under)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a directory that refuses files")
def test_a_directory_in_which_no_file_can_be_made_is_refused():
    # even root can make no file there
    with pytest.raises(ValueError, match=r"res_dir='/proc/self' .*\(.+\)"):
        files.writable_directory("res_dir", "/proc/self")


@pytest.mark.parametrize("bad", [None, 3, b"bytes"])
def test_only_paths_are_paths(bad):
    with pytest.raises(TypeError, match=r"viz_dir=.* is not a path"):
        files.writable_directory("viz_dir", bad)


@pytest.mark.parametrize("good", ["default", "lenet_filter-2.1", "\u00fcbung 3", "a" * 150])
def test_ordinary_names_are_kept(good):
    assert files.file_name("cur_name", good) == good


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("a/b", "because of '/'"),
        ("..\\x", r"because of '\\\\'"),
        ("tab\there", r"because of '\\t'"),
        ("nul\0", r"because of '\\x00'"),
        ("what?", "because of"),
        ("", "letters and digits"),
        ("..", "letters and digits"),
        ("\u00fc" * 76, "152 bytes"),
    ],
)
def test_names_that_are_no_file_names_are_refused(bad, words):
    with pytest.raises(ValueError, match=f"cur_name.*{words}"):
        files.file_name("cur_name", bad)


def test_a_name_is_a_string():
    with pytest.raises(TypeError, match=r"cur_name=3 is not a str"):
        files.file_name("cur_name", 3)
