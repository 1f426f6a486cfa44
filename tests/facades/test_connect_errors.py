"""The error over data of connect's barriers, in closed form."""

from __future__ import annotations

import pytest
import torch

from lla_func import connect, from_loss


def test_a_barrier_beside_the_middle_between_unequal_ends_weighs_each_end_by_its_distance():
    def height(theta):
        t = theta[0]
        return (
            16 * t**2 * (1 - t) ** 2 * (1 + t) - t
        )  # 0 and -1 at the ends, the highest rise behind the middle

    x = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
    ends = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    objective = from_loss(
        lambda theta, x: (x * height(theta)).mean(),
        ends[0],
        [x],
        outputs=lambda theta, x: x * height(theta),
        criterion=lambda outputs, x: outputs.mean(),
        per_sample=lambda outputs, x: outputs,
    )
    found = connect(*ends, objective, epochs=1).straight_barrier
    assert found.value > 1
    # every sample rises in proportion to x, so the error does to the mean as that of x does
    expected = float(x.std() / 2 / x.mean())
    assert found.data_error / found.value == pytest.approx(expected, rel=1e-6)
