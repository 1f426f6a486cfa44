"""How permutations pass through operations that compute: reductions, products, layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from lla_func.graph._factors import Axis
from lla_func.graph._symmetry_walk import Walk, argument_of, axis_lengths, rule, value_shapes

# ---- reductions, and operations along an axis ----------------------------------------------------------------------


def _dims(node: fx.Node, ndim: int) -> set[int]:
    """The axes that a reduction goes over: its second argument, all if there is none."""
    dims = argument_of(node, 1) if len(node.target._schema.arguments) > 1 else None  # type: ignore[union-attr]
    if isinstance(dims, int) and not isinstance(dims, bool):
        dims = [dims]
    return {dim % ndim for dim in dims} if isinstance(dims, (list, tuple)) and dims else set(range(ndim))


def _reduced(walk: Walk, node: fx.Node, shape: Sequence[int], dims: set[int]) -> list[Axis]:
    axes = walk.of(node.args[0])
    if len(shape) == len(axes):
        return [() if i in dims else axis for i, axis in enumerate(axes)]
    return [axis for i, axis in enumerate(axes) if i not in dims]


@rule("sum", "mean", "amax", "amin", "var", "std", "logsumexp", "prod", "any", "all")
def _reduce(walk: Walk, node: fx.Node) -> list[Axis]:
    return _reduced(walk, node, axis_lengths(node), _dims(node, len(walk.of(node.args[0]))))


@rule("linalg_vector_norm", "norm")
def _norm(walk: Walk, node: fx.Node) -> list[Axis]:
    ndim = len(walk.of(node.args[0]))
    dims = argument_of(node, 2)
    over = {int(dim) % ndim for dim in dims} if isinstance(dims, (list, tuple)) and dims else set(range(ndim))
    return _reduced(walk, node, axis_lengths(node), over)


@rule("var_mean", "std_mean")
def _moments(walk: Walk, node: fx.Node) -> list[list[Axis]]:
    dims = _dims(node, len(walk.of(node.args[0])))
    return [_reduced(walk, node, shape or (), dims) for shape in value_shapes(node)]


@rule("cumsum", "cumprod", "flip", "roll")
def _along(walk: Walk, node: fx.Node) -> list[Axis]:
    axes = list(walk.of(node.args[0]))
    dims = argument_of(node, 2 if "roll" in str(node.target) else 1)
    for dim in [dims] if isinstance(dims, int) else dims or range(len(axes)):
        walk.fix(axes[dim])
    return axes


@rule("glu")
def _glu(walk: Walk, node: fx.Node) -> list[Axis]:
    axes, dim = list(walk.of(node.args[0])), int(argument_of(node, 1, -1))
    axes[dim] = walk.part(axes[dim], axis_lengths(node.args[0])[dim], axis_lengths(node)[dim])
    return axes


@rule("as_strided", "as_strided_")
def _strided(walk: Walk, node: fx.Node) -> list[Axis]:
    axes, shape = walk.of(node.args[0]), axis_lengths(node)
    if shape == axis_lengths(node.args[0]) and all(size == 1 for size in shape[2:]):
        return axes  # what pooling to one pixel does to strides
    walk.fix(*axes)
    return walk.fresh(shape)


@rule(
    *("max", "min", "argmax", "argmin", "sort", "topk", "tril", "triu", "scatter", "index_put"),
    *("slice_scatter", "select_scatter", "as_strided_scatter"),
)
def _in_order(walk: Walk, node: fx.Node) -> Any:
    """What depends on the order of elements: everything stays in place."""
    operands: list[Axis] = []
    fx.node.map_arg((node.args, dict(node.kwargs)), lambda n: operands.extend(walk.of(n)))
    walk.fix(*operands)
    if "values" in node.meta:
        return [walk.fresh(shape or ()) for shape in value_shapes(node)]
    return walk.fresh(axis_lengths(node))


@rule("_softmax", "_log_softmax", "_safe_softmax", "softmax", "log_softmax")
def _softmax(walk: Walk, node: fx.Node) -> list[Axis]:
    return walk.of(node.args[0])


@rule("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "empty_like")
def _constant(walk: Walk, node: fx.Node) -> list[Axis]:
    return walk.fresh(axis_lengths(node), fixed=False)


# ---- products ------------------------------------------------------------------------------------------------------


@rule("mm", "bmm", "mv", "dot")
def _product(walk: Walk, node: fx.Node) -> list[Axis]:
    return _contracted(walk, walk.of(node.args[0]), walk.of(node.args[1]))


@rule("addmm", "baddbmm", "addmv")
def _added_product(walk: Walk, node: fx.Node) -> list[Axis]:
    found = _contracted(walk, walk.of(node.args[1]), walk.of(node.args[2]))
    return walk.joined([found, walk.of(node.args[0])], len(found))


def _contracted(walk: Walk, a: Sequence[Axis], b: Sequence[Axis]) -> list[Axis]:
    """The last axis of a and the last but one of b (a vector's only one) are summed over; those before are tied."""
    inner = -2 if len(b) > 1 else -1
    walk.factors.tie(a[-1], b[inner])
    lead = walk.joined([a[:-2], b[:-2]], len(a[:-2])) if len(a) > 2 else []
    return [*lead, *a[len(lead) : -1], *(b[-1:] if len(b) > 1 else [])]


@rule("convolution")
def _convolution(walk: Walk, node: fx.Node) -> list[Axis]:
    x, weight, bias = (walk.of(argument) for argument in node.args[:3])
    transposed, groups = bool(node.args[6]), int(node.args[8])  # type: ignore[arg-type]
    walk.fix(*x[2:], *weight[2:])
    channels, inner, outer = x[1], weight[1], weight[0]
    if transposed:  # [in, out / groups, ...]
        inner, outer = weight[0], weight[1]
        if groups > 1:
            walk.fix(channels, inner, outer)
            outer = walk.factors.axis(axis_lengths(node)[1], fixed=True)
        else:
            walk.factors.tie(channels, inner)
    elif groups == 1:
        walk.factors.tie(channels, inner)
    else:
        total, rows = axis_lengths(node.args[0])[1], axis_lengths(node.args[1])[0]
        group_in, rest = walk.factors.cut([channels], [groups, total // groups])
        group_out, _ = walk.factors.cut([outer], [groups, rows // groups])
        walk.factors.tie(group_in, group_out)
        walk.factors.tie(rest, inner)
    found = [x[0], outer, *walk.fresh(axis_lengths(node)[2:])]
    return walk.joined([found, [bias[0], *[()] * (len(found) - 2)]], len(found)) if bias else found


@rule("embedding")
def _embedding(walk: Walk, node: fx.Node) -> list[Axis]:
    weight = walk.of(node.args[0])
    walk.fix(weight[0])
    return [*walk.of(node.args[1]), weight[1]]


@rule("index")
def _index(walk: Walk, node: fx.Node) -> list[Axis]:
    axes, indices = walk.of(node.args[0]), list(node.args[1])  # type: ignore[arg-type]
    used = [i for i, index in enumerate(indices) if index is not None]
    walk.fix(*(axes[i] for i in used))
    if len(used) != 1:
        walk.fix(*axes)
        return walk.fresh(axis_lengths(node))
    (at,) = used
    return [*axes[:at], *walk.of(indices[at]), *axes[at + 1 :]]


@rule("index_select", "gather")
def _chosen(walk: Walk, node: fx.Node) -> list[Axis]:
    axes, dim = walk.of(node.args[0]), int(node.args[1])  # type: ignore[arg-type]
    if "gather" in str(node.target):
        walk.fix(*axes)
        return walk.fresh(axis_lengths(node))
    walk.fix(axes[dim])
    picked = walk.factors.axis(axis_lengths(node)[dim], fixed=True)
    return [picked if i == dim % len(axes) else axis for i, axis in enumerate(axes)]


# ---- layers --------------------------------------------------------------------------------------------------------


@rule(
    *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
    *("cudnn_batch_norm", "miopen_batch_norm"),
)
def _batch_norm(walk: Walk, node: fx.Node) -> list[list[Axis]]:
    x = walk.of(node.args[0])
    for argument in node.args[1:5]:
        if isinstance(argument, fx.Node):
            walk.factors.tie(x[1], walk.of(argument)[0])
    return [x, *([x[1]] if shape and len(shape) == 1 else [] for shape in value_shapes(node)[1:])]


@rule("native_layer_norm", "_fused_rms_norm")
def _layer_norm(walk: Walk, node: fx.Node) -> list[list[Axis]]:
    x = walk.of(node.args[0])
    lead = len(x) - len(node.args[1])  # type: ignore[arg-type]
    for argument in node.args[2:4]:
        if isinstance(argument, fx.Node):
            walk.joined([x, walk.of(argument)], len(x))
    return [x, *([*x[:lead], *[()] * (len(shape or ()) - lead)] for shape in value_shapes(node)[1:])]


@rule("native_group_norm")
def _group_norm(walk: Walk, node: fx.Node) -> list[list[Axis]]:
    x, channels, groups = walk.of(node.args[0]), int(node.args[4]), int(node.args[6])  # type: ignore[arg-type]
    for argument in node.args[1:3]:
        if isinstance(argument, fx.Node):
            walk.factors.tie(x[1], walk.of(argument)[0])
    group, _ = walk.factors.cut([x[1]], [groups, channels // groups])
    return [x, [x[0], group], [x[0], group]]


@rule("_weight_norm_interface", "_weight_norm")
def _weight_norm(walk: Walk, node: fx.Node) -> Any:
    v, g = walk.of(node.args[0]), walk.of(node.args[1])
    found = walk.joined([v, g], len(v))
    return [found, g] if "values" in node.meta else found


@rule(
    *(f"{kind}{n}d" for kind in ("avg_pool", "_adaptive_avg_pool", "adaptive_avg_pool") for n in (1, 2, 3)),
    *(f"upsample_{kind}" for kind in ("nearest1d", "nearest2d", "nearest3d", "linear1d", "bilinear2d")),
    *(f"upsample_{kind}" for kind in ("bicubic2d", "trilinear3d", "_bilinear2d_aa")),
    *(f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3)),
    *(f"max_pool{n}d" for n in (1, 2, 3)),
    *(f"max_pool{n}d_with_indices" for n in (2, 3)),
    *(f"adaptive_max_pool{n}d" for n in (1, 2, 3)),
)
def _spatial(walk: Walk, node: fx.Node) -> Any:
    """What moves pixels, [N, C, ...] or [C, ...]: these are fixed, and each channel goes through alone."""
    x = walk.of(node.args[0])
    shapes = value_shapes(node) if "values" in node.meta else [axis_lengths(node)]
    name = node.target._schema.name  # type: ignore[union-attr]
    lead = len(x) - next(int(c) for c in reversed(name) if c.isdigit())
    walk.fix(*x[lead:])
    found = [[*x[:lead], *walk.fresh((shape or ())[lead:])] for shape in shapes]
    return found if "values" in node.meta else found[0]


@rule("constant_pad_nd")
def _pad(walk: Walk, node: fx.Node) -> list[Axis]:
    axes, after = walk.of(node.args[0]), axis_lengths(node)
    padded: Sequence[int] = node.args[1]  # type: ignore[assignment]
    found = list(axes)
    for i in range(len(padded) // 2):
        if padded[2 * i] or padded[2 * i + 1]:
            dim = len(axes) - 1 - i
            walk.fix(axes[dim])
            found[dim] = walk.factors.axis(after[dim], fixed=True)
    return found
