"""Settings for all tests."""

from __future__ import annotations

import torch

# Networks here are tiny: more threads would only wait for each other, and tests may run in several processes.
torch.set_num_threads(1)
