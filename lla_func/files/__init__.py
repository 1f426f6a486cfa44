"""Files: written whole or not at all, and fingerprints of what they hold."""

from __future__ import annotations

from lla_func.files._fingerprint import fingerprint

__all__ = ["fingerprint"]
