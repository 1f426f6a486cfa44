"""Bad calls: every one is refused with an error that names the argument, what came and what is allowed.

The table is made of classes: a flag, a count, a seed, a number, a word and a tensor are each checked in one way
wherever they occur, so a row is a function, an argument and a class. What has no class has a row of its own.
"""

from __future__ import annotations

import math
import re
import shlex

import numpy as np
import pytest
import torch
from torch import nn

from bridges import loaders, metrics, optimizers, weights
from bridges.command import _training as training
from bridges.loaders import digits, lenet, mlp
from lla_func import (
    Layout,
    analyse,
    chart,
    criteria,
    directions,
    evaluate,
    from_loss,
    krylov,
    layerwise,
    products,
    risk,
    spectrum,
    store,
    viz_esd,
    viz_lla,
)
from lla_func.spectrum._density import log_density, smooth
from lla_func.spectrum._operator import from_matrix
from lla_func.spectrum._quadrature import quadrature
from tests.command import run

NAN, INF = math.nan, math.inf
GENERATOR = torch.Generator().manual_seed(0)
with torch.random.fork_rng(
    devices=[]
):  # values are part of the tests' names, which all processes must agree on
    torch.manual_seed(0)
    MODEL = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
X, Y = torch.randn(12, 3, generator=GENERATOR), torch.arange(12) % 3
METRIC = metrics.Loss(nn.CrossEntropyLoss(), X, Y)
OBJECTIVE = METRIC.objective(MODEL)
THETA, LAYOUT, P = OBJECTIVE.theta, OBJECTIVE.layout, len(OBJECTIVE.theta)
BASIS = torch.randn(2, P, generator=GENERATOR)
PLANE = chart.plane(THETA, *BASIS)
COORDS = chart.mesh(torch.linspace(-1, 1, 3), torch.linspace(-1, 1, 3))
OPERATOR = from_matrix(torch.diag(torch.arange(1.0, 7.0, dtype=torch.float64)))
V = torch.ones(6, dtype=torch.float64)
NODES, WEIGHTS = torch.tensor([-1.0, 2.0, 3.0]), torch.tensor([0.2, 0.3, 0.5])
BATCHES = [(X, Y)]


def adam(**state):
    """An Adam that has made a step, with some of what it holds replaced."""
    optimizer = torch.optim.Adam(MODEL.parameters())
    for p in MODEL.parameters():
        ones = {"exp_avg": torch.ones_like(p), "exp_avg_sq": torch.ones_like(p), "step": torch.tensor(1.0)}
        optimizer.state[p] = {name: state.get(name, value) for name, value in ones.items()}
    optimizer.param_groups[0].update({name: v for name, v in state.items() if name in ("lr", "eps", "betas")})
    return optimizer


def calling(function, **usual):
    """A call of the function with its usual arguments, but for those that are given."""
    return lambda **changed: function(**{**usual, **changed})


CALLS = {
    "viz_lla": calling(
        viz_lla, model=MODEL, metric=METRIC, steps=2, num_plots=1, seed=0, to_save=False, engine="loop"
    ),
    "viz_esd": calling(viz_esd, model=MODEL, metric=METRIC, esd_n_iter=2, to_save=False),
    "evaluate": calling(evaluate, objective=OBJECTIVE, chart=PLANE, coords=COORDS, engine="loop"),
    "hessian": calling(products.hessian, objective=OBJECTIVE),
    "ggn": calling(products.ggn, objective=OBJECTIVE),
    "fisher": calling(products.fisher, objective=OBJECTIVE),
    "finite_difference": calling(products.finite_difference, objective=OBJECTIVE),
    "from_matrix": from_matrix,
    "lanczos": calling(krylov.lanczos, operator=OPERATOR, v0=V, steps=3),
    "eigenpairs": calling(spectrum.eigenpairs, operator=OPERATOR, k=2),
    "quadrature": calling(quadrature, operator=OPERATOR, steps=3),
    "density": calling(spectrum.density, operator=OPERATOR, steps=3),
    "trace": calling(spectrum.trace, operator=OPERATOR),
    "smooth": calling(smooth, nodes=NODES, weights=WEIGHTS),
    "log_density": calling(log_density, nodes=NODES, weights=WEIGHTS),
    "r_e": calling(criteria.r_e, nodes=NODES),
    "k_hn": calling(criteria.k_hn, nodes=NODES, weights=WEIGHTS),
    "c_t": calling(criteria.c_t, values=NODES),
    "spectrum_class": calling(criteria.spectrum_class, values=NODES),
    "analyse": calling(analyse, operator=OPERATOR),
    "layerwise": calling(layerwise, objective=OBJECTIVE),
    "line": calling(chart.line, origin=THETA, direction=BASIS[0]),
    "span": lambda **labels: chart.span(THETA, *BASIS, **labels),
    "adameq": calling(chart.adameq, origin=THETA, step=BASIS[0]),
    "point": calling(chart.point, chart=PLANE, coords=COORDS),
    "mesh": lambda axis: chart.mesh(axis),
    "mesh_axes": chart.mesh_axes,
    "summary": chart.summary,
    "random": calling(directions.random, layout=LAYOUT, count=2, generator=GENERATOR),
    "orthogonalize": calling(directions.orthogonalize, basis=BASIS, layout=LAYOUT),
    "normalize": calling(directions.normalize, basis=BASIS, theta=THETA, layout=LAYOUT, kind="filter"),
    "freeze": lambda frozen=1, basis=BASIS: directions.freeze(basis, LAYOUT, frozen),
    "without_bias_norm": calling(directions.without_bias_norm, basis=BASIS, layout=LAYOUT),
    "adam_step": calling(directions.adam_step, first=THETA, second=THETA.abs(), lr=0.1, eps=1e-8),
    "Layout.of": calling(Layout.of, tensors={"a": torch.ones(2, 2)}),
    "ravel": LAYOUT.ravel,
    "unravel": LAYOUT.unravel,
    "matching": LAYOUT.matching,
    "only": LAYOUT.only,
    "from_loss": calling(from_loss, loss=lambda theta, batch: theta.sum(), parameters=THETA),
    "risk": calling(risk, objective=OBJECTIVE),
    "Loss": calling(metrics.Loss, criterion=nn.CrossEntropyLoss(), inputs=X, targets=Y),
    "from_loader": calling(metrics.Loss.from_loader, criterion=nn.CrossEntropyLoss(), loader=BATCHES),
    "objective": calling(METRIC.objective, model=MODEL),
    "moments": calling(optimizers.moments, model=MODEL, optimizer=None),
    "adam": lambda **state: optimizers.moments(MODEL, adam(**state)),
    "train": calling(training.train, model=MODEL, metric=METRIC, batches=BATCHES),
    "find": loaders.find,
    "CustomLoader": digits.CustomLoader,
    "lenet": calling(lenet.ModelInit, weight_path=None),
    "mlp": calling(mlp.ModelInit, weight_path=None),
    "load": calling(weights.load, model=MODEL, path="gone.pth"),
    "save": calling(weights.save, model=MODEL, path="new.pth"),
    "writable_directory": lambda path: store.writable_directory("folder", path),
}

# What is checked in one way wherever it occurs: the function, then the arguments.
FLAGS = """
    viz_lla b_sqrt viz_dev eval_hessian to_viz to_save return_loss calc_crit log quadratic log_tol tf32 progress
    viz_esd eigs trace esd to_save to_viz calc_crit
    evaluate channels_last log_tol tf32 progress
    hessian probe | ggn probe | fisher probe | finite_difference probe
    lanczos keep_basis | eigenpairs verify | quadrature keep_basis keep_starts | analyse criteria
    adameq b_sqrt | random orthogonal | from_loss separable | Loss separable | from_loader resident
    CustomLoader wrap shuffle
"""
COUNTS = """
    viz_lla steps:2 num_plots:1 num_per_plot:1 points_per_pass:1 samples_per_tile:1 memory_budget:1 n_v:1
    viz_esd top_n:1 eigs_n_iter:1 trace_n_iter:1 esd_n_iter:1 n_v:1 max_v:2
    evaluate points_per_pass:1 samples_per_tile:1 memory_budget:1
    hessian tile:1 | ggn tile:1 | fisher tile:1 | finite_difference tile:1
    lanczos steps:1 max_v:2 | eigenpairs k:1 max_iter:1 max_basis:1
    quadrature steps:1 probes:1 block:1 | density steps:1 probes:1 points:2 block:1 max_v:2
    trace max_products:1 min_probes:4 block:1 | smooth points:2 | log_density points:2
    analyse density_steps:0 top_n:0 trace_products:0 probes:1 eigs_products:1 max_v:2 | layerwise max_products:1
    random count:1 | train epochs:1 | CustomLoader batch_size:1 shift:0 | lenet N_CLASSES:1 | mlp N_CLASSES:1
"""
SEEDS = (
    "viz_lla seed dropout_seed | viz_esd seed | lanczos seed | eigenpairs seed | quadrature seed | trace seed"
)
SEEDS += " | analyse seed | objective dropout_seed | train seed"
NUMBERS = """
    viz_lla dist adam_lr cap_loss n_kh | viz_esd eigs_tol trace_tol n_kh
    hessian memory | finite_difference step | eigenpairs tol | density relative_bandwidth | trace tol
    log_density decades floor | r_e zero | k_hn n zero | c_t zero | spectrum_class share
    analyse eigs_tol trace_tol n_kh | adam_step lr eps | train lr
"""
WORDS = """
    viz_lla axes normalization order ignore distribution dim hessian_pair mode batchnorm engine sampling
    viz_esd which curvature kernel batchnorm | evaluate engine sampling
    hessian kernel blocks | lanczos on_breakdown | eigenpairs which | density kind on_breakdown | trace method
    analyse which | random distribution | normalize kind order ignore
    from_loss reduction | Loss reduction | objective batchnorm | train schedule | CustomLoader split
"""
TENSORS = """
    line origin | point coords | mesh axis | mesh_axes coords | adam_step first second
    orthogonalize basis | normalize basis theta | freeze basis | without_bias_norm basis
    evaluate coords | viz_lla axes | from_matrix matrix | r_e nodes | k_hn nodes | c_t values
"""


def listed(text):
    """The pairs (function, argument) of a list as above."""
    for group in re.split(r"[|\n]", text):
        function, *arguments = group.split() or [""]
        for argument in arguments:
            yield function, argument


def rows():
    """Each bad call: the function, the argument, the value, the type of the error, and words of its message."""
    for function, name in listed(FLAGS):
        yield function, name, "no", TypeError, f"{name}='no' is neither True nor False"
    for function, entry in listed(COUNTS):
        name, least = entry.split(":")
        few = int(least) - 1
        yield function, name, few, ValueError, f"{name}={few} is too small; pass an int of at least {least}"
        yield function, name, 2.5, TypeError, rf"{name}=2\.5 is not a whole number"
        yield function, name, True, TypeError, f"{name}=True is not a whole number"
        yield function, name, 2**70, ValueError, f"{name}={2**70} is too large"
    for function, name in listed(SEEDS):
        yield (
            function,
            name,
            2**64,
            ValueError,
            f"{name}={2**64} is too large; pass an int of at most {2**64 - 1}",
        )
        yield function, name, -1, ValueError, f"{name}=-1 is too small"
        yield function, name, 2.5, TypeError, rf"{name}=2\.5 is "
    for function, name in listed(NUMBERS):
        yield function, name, NAN, ValueError, f"{name}=nan is not allowed; pass a finite number"
        yield function, name, -1.0, ValueError, rf"{name}=-1\.0 is (not allowed|negative)"
        yield function, name, "1", TypeError, f"{name}='1' is not a number"
        yield function, name, True, TypeError, f"{name}=True is not a number"
    for function, name in listed(WORDS):
        yield function, name, "x", ValueError, f"{name}='x' is not one of "
        yield (
            function,
            name,
            torch.ones(2),
            ValueError,
            rf"{name}(=Tensor of shape \[2\] is not one of | has shape \[2\])",
        )
    for function, name in listed(TENSORS):
        usual = torch.full((2, P), 1.0)
        yield function, name, usual + 1j, TypeError, f"{name}.* has dtype torch.complex64; pass real"
        yield (
            function,
            name,
            "abc",
            (TypeError, ValueError),
            f"{name}.*(is of type str; pass a tensor|holds no|is not one of)",
        )
    yield from SINGLE


NOT_FINITE = "has NaN or infinite values; pass finite numbers"
SINGLE = [
    ("viz_lla", "axes", torch.ones(3, P), ValueError, rf"axes has shape \[3, {P}\]; pass \[2, P\]"),
    ("viz_lla", "axes", torch.ones(2, P - 1), ValueError, rf"axes has shape \[2, {P - 1}\]; .*{P}"),
    ("viz_lla", "axes", torch.full((2, P), NAN), ValueError, f"axes {NOT_FINITE}"),
    ("viz_lla", "axes", torch.full((2, P), INF), ValueError, f"axes {NOT_FINITE}"),
    (
        "viz_lla",
        "axes",
        torch.ones(2, P, dtype=torch.int64),
        TypeError,
        "axes has dtype torch.int64; pass real",
    ),
    ("viz_lla", "axes", torch.ones(2, P, device="meta"), TypeError, "axes has no data"),
    ("viz_lla", "axes", torch.ones(2, P).to_sparse(), TypeError, "axes is stored as torch.sparse_coo"),
    ("viz_lla", "steps", 10**6, ValueError, "steps=1000000 is too large; pass an int of at most 10000"),
    ("viz_lla", "num_plots", 10**12, ValueError, "num_plots=1000000000000 is too large"),
    ("viz_lla", "cur_name", 5, TypeError, "cur_name=5 is not a str"),
    ("viz_lla", "cur_name", "a/b", ValueError, "cur_name='a/b.*' cannot be a file name because of '/'"),
    (
        "viz_lla",
        "freeze",
        2.5,
        TypeError,
        r"freeze=2\.5 is not allowed; pass a layer number or a name pattern",
    ),
    ("viz_lla", "freeze", [1], TypeError, r"freeze=.1,?. is no name pattern"),
    ("viz_lla", "freeze", [], ValueError, "freeze is empty; pass at least one name pattern"),
    ("viz_lla", "freeze", "zz", ValueError, "freeze: pattern 'zz' matches no parameter; there are 0.weight"),
    ("viz_lla", "freeze", 99, ValueError, "freeze=99 is out of range; the model has 4"),
    ("viz_lla", "raa", "0.*", TypeError, r"raa='0\.\*' is not a whole number"),
    ("viz_lla", "device", "tpu", ValueError, "device='tpu' cannot be used here .*; pass device='cpu'"),
    ("viz_lla", "device", 1.5, ValueError, r"device=1\.5 cannot be used here"),
    ("viz_lla", "store", "", ValueError, "store='' is empty; name a directory"),
    ("viz_lla", "store", 5, TypeError, "store=5 is not a path"),
    (
        "viz_lla",
        "group",
        5,
        TypeError,
        "group is of type int; pass a torch.distributed process group, or None",
    ),
    ("viz_lla", "metric", metrics.Loss, TypeError, r"metric=<class .*has no objective\(model\) method"),
    ("viz_lla", "metric", 5, TypeError, "metric=5 "),
    ("viz_lla", "model", None, TypeError, "model is of type NoneType"),
    ("viz_lla", "model", nn.Linear, TypeError, "model is a class; pass an instance"),
    ("viz_esd", "device", "cuda:99", ValueError, "device='cuda:99' cannot be used here"),
    ("viz_esd", "top_n", -1, ValueError, "top_n=-1 is too small"),
    ("viz_esd", "trace_n_iter", -1, ValueError, "trace_n_iter=-1 is too small"),
    ("viz_esd", "parameters", [5], TypeError, r"parameters=\[5\] is no name pattern"),
    ("viz_esd", "parameters", [], ValueError, "parameters is empty; .*or None for all"),
    ("viz_esd", "parameters", "zz", ValueError, "parameters: pattern 'zz' matches no parameter"),
    ("viz_esd", "exp_name", None, TypeError, "exp_name=None is not a str"),
    ("evaluate", "objective", MODEL, TypeError, "objective is of type Sequential; pass an Objective"),
    ("evaluate", "chart", BASIS, TypeError, "chart is of type Tensor; pass a Chart"),
    ("evaluate", "chart", PLANE._replace(origin=THETA * NAN), ValueError, f"chart.origin {NOT_FINITE}"),
    ("evaluate", "chart", PLANE._replace(basis=BASIS * NAN), ValueError, f"chart.basis {NOT_FINITE}"),
    (
        "evaluate",
        "chart",
        PLANE._replace(basis=BASIS[:, 1:]),
        ValueError,
        rf"chart.basis has shape .*; pass \[K, {P}\]",
    ),
    ("evaluate", "coords", COORDS * NAN, ValueError, "coords has NaN or infinite values"),
    ("evaluate", "coords", torch.ones(0, 2), ValueError, "coords is empty"),
    ("evaluate", "coords", torch.ones(3, 3), ValueError, r"coords has shape \[3, 3\], .*needs \[N, 2\]"),
    ("evaluate", "plan", {"engine": "loop", "workers": 0}, ValueError, r"plan\['workers'\]=0 is too small"),
    ("evaluate", "plan", {"engine": "loop", "workers": -1}, ValueError, r"plan\['workers'\]=-1 is too small"),
    (
        "evaluate",
        "plan",
        {"engine": "loop", "points_per_pass": 10**12},
        ValueError,
        r"plan\['points_per_pass'\]=1000",
    ),
    ("evaluate", "plan", {"engine": "rm"}, ValueError, r"plan\['engine'\]='rm' is not one of"),
    ("evaluate", "plan", {"speed": 5}, ValueError, r"plan has unknown entries \['speed'\]"),
    ("evaluate", "plan", 5, TypeError, "plan=5 is not a plan"),
    ("evaluate", "tol", 0.1, ValueError, r"tol=0\.1 is for sampling='chebyshev'"),
    ("hessian", "objective", MODEL, TypeError, "objective is of type Sequential"),
    ("hessian", "parameters", 5, TypeError, "parameters=5 is no name pattern"),
    ("ggn", "parameters", "zz", ValueError, "parameters: pattern 'zz' matches no parameter"),
    ("from_matrix", "matrix", torch.ones(2, 3), ValueError, r"matrix has shape \[2, 3\]"),
    ("from_matrix", "matrix", torch.eye(2) * NAN, ValueError, f"matrix {NOT_FINITE}"),
    ("from_matrix", "matrix", torch.eye(2).long(), TypeError, "matrix has dtype torch.int64"),
    ("from_matrix", "matrix", torch.zeros(0, 0), ValueError, r"matrix has shape \[0, 0\]"),
    ("lanczos", "operator", torch.eye(6), TypeError, "operator is of type Tensor; pass an Operator"),
    ("lanczos", "v0", V.float(), ValueError, "v0 is torch.float32, operator 'matrix' works in torch.float64"),
    ("lanczos", "v0", V * 0, ValueError, "v0 is zero or not finite"),
    ("lanczos", "v0", V[:-1], ValueError, r"v0 has shape \[5\]"),
    ("lanczos", "basis_device", "tpu", ValueError, "basis_device='tpu' cannot be used here"),
    ("eigenpairs", "operator", None, TypeError, "operator is of type NoneType"),
    ("eigenpairs", "k", 99, ValueError, "k=99 is more than the dimension 6"),
    ("eigenpairs", "start", V * 0, ValueError, "start is zero"),
    ("eigenpairs", "start", V * NAN, ValueError, f"start {NOT_FINITE}"),
    ("eigenpairs", "basis_device", "tpu", ValueError, "basis_device='tpu' cannot be used here"),
    ("quadrature", "operator", 5, TypeError, "operator is of type int"),
    ("trace", "operator", 5, TypeError, "operator is of type int"),
    ("trace", "known", 5, TypeError, r"known is of type int; pass what eigenpairs\(operator"),
    ("trace", "reuse", "x", TypeError, r"reuse is of type str; pass what quadrature\(operator"),
    ("analyse", "operator", None, TypeError, "operator is of type NoneType"),
    ("analyse", "top_n", 99, ValueError, "top_n=99 is too large; pass an int of at most 6"),
    ("layerwise", "objective", 5, TypeError, "objective is of type int"),
    ("layerwise", "layers", [], ValueError, "layers is empty"),
    ("layerwise", "layers", ["zz"], ValueError, "layers: pattern 'zz' matches no parameter"),
    ("smooth", "nodes", NODES + 1j, TypeError, "nodes has dtype torch.complex64; pass real"),
    ("smooth", "weights", WEIGHTS + 1j, TypeError, "weights has dtype torch.complex64; pass real"),
    ("smooth", "nodes", "abc", TypeError, "nodes='abc' holds no numbers"),
    ("smooth", "weights", -WEIGHTS, ValueError, "weights has a row that is negative somewhere"),
    ("smooth", "weights", 3 * WEIGHTS, ValueError, "weights has a row .*does not sum to 1"),
    ("smooth", "nodes", NODES * NAN, ValueError, "nodes or weights hold NaN"),
    ("log_density", "weights", -WEIGHTS, ValueError, "weights has a row that is negative somewhere"),
    ("log_density", "floor", 2, ValueError, "floor=2 is not allowed; .*at most 1"),
    ("r_e", "nodes", NODES[:0], ValueError, r"nodes has shape \[0\]"),
    ("r_e", "nodes", [["a"]], TypeError, r"nodes=\[\['a'\]\] holds no numbers"),
    ("k_hn", "weights", -WEIGHTS, ValueError, "weights holds negative values"),
    ("k_hn", "weights", WEIGHTS[:-1], ValueError, r"nodes and weights have shapes \[1, 3\] and \[1, 2\]"),
    ("line", "origin", 5, TypeError, "origin is of type int; pass a tensor"),
    ("line", "origin", THETA * NAN, ValueError, f"origin {NOT_FINITE}"),
    ("line", "origin", THETA[None], ValueError, r"origin has shape \[1, .*; pass \[P\]"),
    ("line", "direction", BASIS[0] * INF, ValueError, f"direction 1 {NOT_FINITE}"),
    ("line", "direction", None, TypeError, "direction 1 is of type NoneType"),
    ("line", "direction", BASIS[0].double(), ValueError, "direction 1 has dtype torch.float64"),
    ("span", "labels", ["a"], ValueError, r"labels=\['a'\] does not name 2 directions"),
    ("span", "labels", [5, 6], TypeError, r"labels=\[5, 6\] is no name pattern"),
    ("point", "chart", 5, TypeError, "chart is of type int; pass a Chart"),
    ("point", "coords", torch.ones(2, 3), ValueError, r"coords has shape \[2, 3\]; pass \[N, 2\]"),
    ("point", "coords", COORDS * NAN, ValueError, f"coords {NOT_FINITE}"),
    ("mesh", "axis", [1, 2], TypeError, "axis 1 is of type list; pass a tensor"),
    ("mesh", "axis", torch.ones(2, 2), ValueError, r"axis 1 has shape \[2, 2\]; pass \[N\]"),
    ("mesh", "axis", torch.ones(0), ValueError, "axis 1 is empty"),
    ("summary", "chart", 5, TypeError, "chart is of type int"),
    ("random", "layout", None, TypeError, "layout is of type NoneType; pass a Layout"),
    ("random", "generator", 5, TypeError, "generator=5 is not a torch.Generator"),
    ("random", "dtype", torch.int64, TypeError, "dtype=torch.int64 is no real floating dtype"),
    ("random", "count", 10**12, ValueError, f"count=1000000000000 is too large; pass an int of at most {P}"),
    ("orthogonalize", "basis", BASIS * NAN, ValueError, f"basis {NOT_FINITE}"),
    ("orthogonalize", "basis", BASIS[[0, 0]], ValueError, "basis .* is linearly dependent"),
    ("orthogonalize", "layout", 5, TypeError, "layout is of type int"),
    ("normalize", "theta", THETA * NAN, ValueError, f"theta {NOT_FINITE}"),
    ("normalize", "theta", THETA.long(), TypeError, "theta has dtype torch.int64"),
    ("normalize", "theta", THETA[:-1], ValueError, rf"theta has shape \[{P - 1}\]; pass \[{P}\]"),
    ("normalize", "order", True, ValueError, "order=True is not one of 1, 2"),
    ("freeze", "frozen", 0, ValueError, "freeze=0 is out of range"),
    ("freeze", "frozen", True, TypeError, "freeze=True is not allowed"),
    ("freeze", "frozen", None, TypeError, "freeze=None is no name pattern"),
    ("adam_step", "second", -THETA.abs() - 1, ValueError, "second moment is negative"),
    ("adam_step", "first", THETA * NAN, ValueError, f"first {NOT_FINITE}"),
    ("adam_step", "lr", THETA[:-1], ValueError, "lr has shape"),
    ("Layout.of", "tensors", {}, ValueError, "there is no parameter to move"),
    (
        "Layout.of",
        "tensors",
        [torch.ones(2)],
        TypeError,
        "tensors is of type list; pass a dict of named tensors",
    ),
    ("Layout.of", "tensors", {"a": 5}, TypeError, "parameter 'a' is of type int; pass a tensor"),
    ("Layout.of", "tensors", {5: torch.ones(2)}, TypeError, "the name of a parameter is of type int"),
    ("Layout.of", "roles", {"a": "x"}, ValueError, r"roles\['a'\]='x' is not one of 'weight'"),
    ("Layout.of", "roles", {"b": "bias"}, ValueError, "roles names 'b', which is none of the parameters"),
    ("Layout.of", "filter_axes", {"a": 5}, ValueError, r"filter_axes\['a'\]=5 is too large"),
    ("ravel", "tensors", 5, TypeError, "tensors is of type int"),
    ("ravel", "tensors", dict.fromkeys(LAYOUT.names, 5), TypeError, "parameter '0.weight' is of type int"),
    ("unravel", "theta", torch.tensor(1.0), ValueError, "theta has no axes"),
    ("unravel", "theta", None, TypeError, "theta is of type NoneType"),
    ("matching", "patterns", [5], TypeError, r"patterns=\[5\] is no name pattern"),
    ("matching", "patterns", [], ValueError, "patterns is empty"),
    ("only", "indices", [99], ValueError, "index=99 is too large; pass an int of at most 3"),
    ("only", "indices", ["x"], TypeError, "index='x' is not a whole number"),
    ("from_loss", "loss", 5, TypeError, "loss=5 cannot be called"),
    ("from_loss", "outputs", 5, TypeError, "outputs=5 cannot be called"),
    ("from_loss", "parameters", 5, TypeError, "parameters is of type int"),
    ("from_loss", "parameters", THETA * NAN, ValueError, "'theta' has NaN or infinite values"),
    ("from_loss", "parameters", THETA + 1j, ValueError, "dtype torch.complex64; only real floating"),
    (
        "from_loss",
        "parameters",
        torch.ones(3, dtype=torch.int64),
        ValueError,
        "dtype torch.int64; only real floating",
    ),
    ("from_loss", "parameters", torch.zeros(0), ValueError, "theta is empty"),
    ("from_loss", "batches", "x", TypeError, "batches='x' is no sequence of batches"),
    ("from_loss", "batches", [], ValueError, "batches is empty"),
    ("risk", "objective", 5, TypeError, "objective is of type int"),
    ("risk", "theta", THETA[:-1], ValueError, rf"theta has shape \[{P - 1}\]; pass \[{P}\]"),
    ("Loss", "criterion", 5, TypeError, "criterion.*cannot be called|criterion is of type int|criterion=5"),
    ("Loss", "inputs", X[:5], ValueError, "targets has 12 samples on axis 0, inputs has 5"),
    ("Loss", "device", "tpu", ValueError, "device='tpu' cannot be used here"),
    ("from_loader", "loader", 5, TypeError, "loader is of type int"),
    ("objective", "model", nn.ReLU(), ValueError, "model has no parameter"),
    ("moments", "optimizer", 5, TypeError, "optimizer is of type int"),
    ("moments", "optimizer", torch.optim.SGD(MODEL.parameters(), lr=1), ValueError, "optimizer is SGD"),
    ("adam", "lr", NAN, ValueError, r"optimizer \(Adam\) lr=nan is not allowed"),
    ("adam", "lr", -1, ValueError, r"optimizer \(Adam\) lr=-1 is not allowed"),
    ("adam", "eps", NAN, ValueError, r"optimizer \(Adam\) eps=nan is not allowed"),
    ("adam", "betas", (0.9, 1.0), ValueError, r"optimizer \(Adam\) betas\[1\]=1.0 is not allowed"),
    ("adam", "betas", 5, TypeError, r"optimizer \(Adam\) betas is of type int"),
    ("adam", "exp_avg", torch.full((4, 3), NAN), ValueError, f"'0.weight': a moment {NOT_FINITE}"),
    ("adam", "exp_avg", torch.ones(2), ValueError, r"'0.weight': a moment has shape \[2\]"),
    ("adam", "step", 0, ValueError, "'0.weight': step=0 is not allowed; pass a finite number greater than 0"),
    ("train", "model", 5, TypeError, "model is of type int"),
    ("train", "metric", 5, TypeError, "metric=5 cannot be called"),
    ("train", "batches", 5, TypeError, "batches is of type int"),
    ("train", "batches", [], ValueError, "batches is empty"),
    ("train", "optimizer", 5, TypeError, "optimizer is of type int"),
    ("train", "after_epoch", 5, TypeError, "after_epoch=5 cannot be called"),
    ("find", "loader", 5, TypeError, "loader is of type int"),
    ("find", "loader", "", ValueError, "loader='' is not one of"),
    ("CustomLoader", "data_path", 5, TypeError, "data_path is of type int"),
    ("CustomLoader", "shift", 100, ValueError, "shift=100 is too large; pass an int of at most 28"),
    ("lenet", "device", "tpu", ValueError, "device='tpu' cannot be used here"),
    ("lenet", "weight_path", 5, TypeError, "path is of type int"),
    ("mlp", "weight_path", "gone", FileNotFoundError, "no weights file 'gone'"),
    ("load", "model", 5, TypeError, "model is of type int"),
    ("load", "path", 5, TypeError, "path is of type int"),
    ("save", "model", 5, TypeError, "model is of type int"),
    ("save", "path", "", ValueError, "path='.*' is no file name"),
    ("writable_directory", "path", "", ValueError, "folder='' is empty"),
    ("writable_directory", "path", "/dev/null/x", ValueError, "folder='/dev/null/x' is not a directory"),
]
POSITIONAL = (
    "from_matrix",
    "mesh",
    "mesh_axes",
    "summary",
    "ravel",
    "unravel",
    "matching",
    "only",
    "find",
    "writable_directory",
)

TABLE = list(rows())
NAMES = [f"{function}({name}={str(value)[:24]})".replace("\n", "") for function, name, value, *_ in TABLE]


@pytest.mark.parametrize(("function", "name", "value", "error", "words"), TABLE, ids=NAMES)
def test_a_bad_call_names_the_argument_its_value_and_what_is_allowed(
    function, name, value, error, words, own_folder
):
    operands, options = ((value,), {}) if function in POSITIONAL else ((), {name: value})
    with pytest.raises(error) as caught:
        CALLS[function](*operands, **options)
    assert re.search(words, " ".join(str(caught.value).split())), str(caught.value)


def test_the_table_has_at_least_200_distinct_bad_calls():
    assert len({(function, name, words) for function, name, _, _, words in TABLE}) >= 200


def test_what_is_refused_is_shown_in_few_words():
    with pytest.raises(ValueError, match="is not one of") as caught:
        viz_lla(MODEL, METRIC, axes="x" * 10**6, to_save=False)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [np.True_, np.bool_(False), True])
def test_flags_of_numpy_are_flags(value):
    found = viz_lla(MODEL, METRIC, steps=2, num_plots=1, seed=0, to_save=np.False_, b_sqrt=value, log=value)
    assert len(found.landscapes) == 1


def test_numbers_of_numpy_and_single_tensors_are_numbers(own_folder):
    options = {
        "steps": np.int64(3),
        "dist": np.float32(1),
        "num_plots": torch.tensor(1),
        "seed": np.uint64(2**63),
    }
    assert len(viz_lla(MODEL, METRIC, to_save=False, **options).landscapes[0].losses) == 9


LINES = {
    "eval --loader template --store ''": "store='' is empty",
    "eval --loader template --steps 1": "1 is too small; the least is 2",
    "eval --loader template --steps 1000000": "steps=1000000 is too large",
    "eval --loader template --seed -1": "-1 is too small; the least is 0",
    "eval --loader template --seed 18446744073709551616": "18446744073709551616 is too large; the most is",
    "eval --loader template --dist nan": "nan is not a finite number greater than 0",
    "eval --loader template --dim 3": "'3' is not one of 1, 2",
    "eval --loader template --ignore bias": "'bias' is not one of bias_norm; did you mean 'bias_norm'?",
    "eval --loader template --distribution normall": "did you mean 'normal'",
    "eval --loader template --hessian_pair bottom": "'bottom' is not one of top, extremes",
    "eval --loader template --freeze 2.5": r"freeze: pattern '2\.5' matches no parameter",
    "eval --loader template --freeze 99": "freeze=99 is out of range",
    "eval --loader template --device tpu": "device='tpu' cannot be used here",
    "eval --loader template --device ''": "device='' cannot be used here",
    "eval --loader template --name ''": "--name='' cannot be a file name",
    "eval --loader template -vd ''": "viz_dir='' is empty",
    "eval --loader template -rd ''": "res_dir='' is empty",
    "eval --loader template --weights ''": "no weights file ''",
    "eval --loader lenet --weights None --classes 1 --steps 2": "Target .* is out of bounds.* number of classes",
    "eval --loader mlp --weights None --classes 5 --steps 2": r"predictions of shape \[256, 5\]",
    "eval --loader ''": "loader='' is not one of",
    "eval --resume ''": "--resume",
    "esd --loader template --parameters ''": "parameters: pattern '' matches no parameter",
    "esd --loader template --top_n 0": "0 is too small; the least is 1",
    "esd --loader template --max_v 1": "1 is too small; the least is 2",
    "esd --loader template --n_v 100000000": "n_v=100000000 is too large",
    "train --loader template -ld ''": "--log_dir='' is empty",
    "train --loader template -lr nan": "nan is not a finite number",
    "train --loader lenet --shift 100": "shift=100 is too large",
    "train --loader template --batch_size 0": "0 is too small",
}


@pytest.mark.parametrize("line", LINES)
def test_a_bad_command_line_ends_with_2_and_one_line_that_names_it(line, own_folder, capsys):
    assert run(*shlex.split(line)) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert re.search(LINES[line], said), said
