"""The `lla` command. Nothing here imports torch, so that help and misspelled options answer at once."""

from __future__ import annotations

from bridges.command._cli import main, parser

__all__ = ["main", "parser"]
