"""Files: written whole or not at all, and fingerprints of what they hold."""

from __future__ import annotations

from lla_func.files._arrays import load_arrays, save_arrays
from lla_func.files._atomic import append_line, replacing, sweep
from lla_func.files._fingerprint import fingerprint
from lla_func.files._head import check_head, read_head
from lla_func.files._json import json_types, plain, save_json
from lla_func.files._paths import PathLike, file_name, writable_directory
from lla_func.files._shards import Shards

__all__ = [
    "PathLike",
    "Shards",
    "append_line",
    "check_head",
    "file_name",
    "fingerprint",
    "json_types",
    "load_arrays",
    "plain",
    "read_head",
    "replacing",
    "save_arrays",
    "save_json",
    "sweep",
    "writable_directory",
]
