"""Settings for all tests."""

from __future__ import annotations

import pytest
import torch

# Networks here are tiny: more threads would only wait for each other, and tests may run in several processes.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    """Networks that a test does not seed itself are the same in every run, whichever tests ran before."""
    torch.manual_seed(0)


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """The test runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
