"""Models are matched by the names of their parameters, in whatever order these come."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bridges import metrics, trajectories
from lla_func import connect, viz_path


class Pair(nn.Module):
    """Two layers of one shape, defined in either order."""

    def __init__(self, first, second):
        super().__init__()
        for name in (first, second):
            setattr(self, name, nn.Linear(3, 3))

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def test_models_that_define_their_layers_in_another_order_are_matched_by_name():
    torch.manual_seed(0)
    x, y = torch.randn(8, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    metric = metrics.Loss(nn.CrossEntropyLoss(), x, y)
    a, b = Pair("first", "second"), Pair("second", "first")
    same = Pair("first", "second")
    same.load_state_dict(b.state_dict())
    curve = connect(a, b, metric, epochs=1)
    assert torch.equal(curve.points, connect(a, same, metric, epochs=1).points)
    found = trajectories.state_dict(curve, 1.0, like=b)
    assert all(torch.equal(found[name], value) for name, value in b.state_dict().items())
    result = viz_path([a, b], metric, steps=3, to_save=False)
    assert float(result.losses[1]) == pytest.approx(metric(b))


@pytest.mark.parametrize("swapped", [False, True])
def test_models_that_tie_other_layers_are_of_another_architecture(swapped):
    x = torch.randn(8, 3)
    metric = metrics.Loss(nn.MSELoss(), x, x)
    pair = [Pair("first", "second"), Pair("first", "second")]
    pair[swapped].second.weight = pair[swapped].first.weight
    for call in (lambda: connect(*pair, metric), lambda: viz_path(pair, metric, to_save=False)):
        with pytest.raises(
            ValueError, match=r"first.weight (shares|does not share) its values with second.weight"
        ):
            call()
