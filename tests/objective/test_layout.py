"""Layout: ravel and unravel are inverses, views where they can be, and refuse what does not fit by name."""

from __future__ import annotations

import pytest
import torch
from torch.utils._pytree import tree_leaves

from lla_func._torch._dispatch import DispatchMode
from lla_func.graph._partition import partition
from lla_func.objective._layout import Layout
from tests.cases import objective


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    shapes = {"conv": (3, 2, 2, 2), "bias": (3,), "scale": (), "linear": (4, 5)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_unravel_inverts_ravel_exactly(tensors):
    layout = Layout.of(tensors)
    back = layout.unravel(layout.ravel(tensors))
    assert list(back) == list(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(back[name], tensor)


def test_ravel_inverts_unravel_exactly(tensors):
    layout = Layout.of(tensors)
    theta = torch.arange(float(layout.numel))
    assert torch.equal(layout.ravel(layout.unravel(theta)), theta)


def test_unravel_gives_views_and_keeps_leading_axes(tensors):
    layout = Layout.of(tensors)
    thetas = torch.zeros(2, 7, layout.numel)
    views = layout.unravel(thetas)
    assert views["conv"].shape == (2, 7, 3, 2, 2, 2)
    views["conv"][1, 6] = 1.0
    assert thetas[1, 6, layout.slices[0]].eq(1).all()
    assert thetas.sum() == 24


def test_ravel_of_one_tensor_is_a_view():
    tensor = torch.randn(3, 4)
    theta = Layout.of({"w": tensor}).ravel({"w": tensor})
    assert theta.data_ptr() == tensor.data_ptr()


def test_filters_lie_along_the_first_axis_unless_said_otherwise(tensors):
    tensors = {**tensors, "transposed": torch.randn(2, 6, 3, 3)}
    layout = Layout.of(tensors, filter_axes={"transposed": 1})
    counts = [view.shape[1] for view in layout.filters(torch.zeros(1, layout.numel))]
    assert counts == [3, 1, 1, 4, 6]


def test_writing_to_filters_writes_to_the_vectors():
    layout = Layout.of({"w": torch.zeros(2, 6, 3)}, filter_axes={"w": 1})
    vectors = torch.zeros(1, 36)
    next(layout.filters(vectors))[:, 4] = 1.0
    assert torch.equal(layout.unravel(vectors)["w"][0, :, 4], torch.ones(2, 3))
    assert vectors.sum() == 6


def test_patterns_match_names_and_a_pattern_without_a_match_is_an_error(tensors):
    layout = Layout.of(tensors)
    assert layout.matching("*i*") == (1, 3)
    assert layout.matching(["conv", "l*"]) == (0, 3)
    with pytest.raises(
        ValueError, match=r"'features\.\*' matches no parameter; there are conv, bias, scale, linear"
    ):
        layout.matching("features.*")


def test_mask_is_true_on_the_named_parameters_only(tensors):
    layout = Layout.of(tensors)
    mask = layout.mask([1, 2])
    assert mask.nonzero().flatten().tolist() == [24, 25, 26, 27]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bias": torch.zeros(4)}, r"'bias' has shape \[4\], the layout says \[3\]"),
        (
            {"linear": torch.zeros(4, 5, dtype=torch.float64)},
            "'linear' has dtype torch.float64, but 'conv' has torch.float32",
        ),
        ({"linear": torch.zeros(4, 5, device="meta")}, "'linear' has device meta, but 'conv' has cpu"),
        ({"bias": torch.zeros(3, dtype=torch.int64)}, "'bias' has dtype torch.int64"),
        ({"extra": torch.zeros(3)}, r"unknown \['extra'\]"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tensors, change, words):
    layout = Layout.of(tensors)
    with pytest.raises(ValueError, match=words):
        layout.ravel({**tensors, **change})


def test_theta_of_another_length_is_refused(tensors):
    with pytest.raises(ValueError, match=r"theta has 3 elements on its last axis, the layout has P=48"):
        Layout.of(tensors).unravel(torch.zeros(3))


def test_a_model_without_parameters_is_refused():
    with pytest.raises(ValueError, match="no parameter to move"):
        Layout.of({})


class Written(DispatchMode):
    """The sizes of all tensors that come into being."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        self.sizes += [x.numel() for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        return result


def test_a_derivative_writes_one_vector_for_all_parameters_together():
    layout = Layout.of({f"w{i}": torch.zeros(3, 4) for i in range(20)})
    theta = torch.ones(layout.numel, requires_grad=True)
    loss = sum(tensor.sin().sum() for tensor in layout.unravel(theta).values())
    with Written() as written:
        torch.autograd.grad(loss, theta)
    assert sum(size >= layout.numel for size in written.sizes) == 1


def test_parameters_taken_from_theta_are_still_hoisted_from_a_part_of_it():
    made = objective("cnn")
    parts = partition(made.loss, made.theta, made.batches[0])
    assert len(parts.affine) == 4
    assert 0 < parts.span.start < parts.span.stop == len(made.theta)
