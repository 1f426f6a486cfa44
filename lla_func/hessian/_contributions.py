"""What each sample and each parameter contributes to the trace of the Gauss-Newton matrix, J^T H J.

    tr J^T H J = sum over samples i and columns s of the root of the criterion's Hessian of |J_i^T s|^2

One backward pass for each column gives the signals at all sites (:mod:`lla_func.hessian._sites`), from which the
squared norms follow. Where parameters are tied, used several times, or computed from others, the gradients of samples
at all places are added up before they are squared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.autograd import grad

from lla_func.graph import VIEWS
from lla_func.hessian import _root as root
from lla_func.hessian._sites import FORMULAS, Axis, Gradients, NotCoveredError, Site, by_sample
from lla_func.hessian._split import Program, run, supplied
from lla_func.objective import Batch, samples

aten = torch.ops.aten

PROBE = 5
"""Samples of the small tile on which it is found out where samples lie; a prime that few other axes share."""
GRADIENT_BYTES = 2**27
"""Memory for gradients of single samples, where they have to be formed."""


class Use(NamedTuple):
    """Where a parameter, or what is computed of parameters alone, meets data.

    Attributes:
        site: the number of the site.
        place: among its arguments.
        node: what meets data there.
        alike: axes along which all of it is the same, by ``expand``; one of each is meant.
    """

    site: int
    place: int
    node: fx.Node
    alike: tuple[int, ...]

    def image(self, known: Mapping[fx.Node, Any]) -> Tensor:
        """What meets data there, once along the axes where all of it is the same."""
        return once(known[self.node], self.alike)


def once(value: Tensor, alike: Sequence[int]) -> Tensor:
    """The tensor with these axes of length 1."""
    for axis in alike:
        value = value.narrow(axis, 0, 1)
    return value


class Pass(NamedTuple):
    """A forward pass of the network: what crosses the cut, and the sites on the way, with their results."""

    values: list[Tensor]
    sites: list[tuple[Site, Tensor]]
    uses: list[Use]
    known: dict[fx.Node, Any]


def forward(program: Program, parameters: Sequence[Tensor], batch: Batch) -> Pass:
    """Runs the network on a tile so that signals to the results of all sites can be asked for.

    Raises:
        NotCoveredError: a parameter meets data in a way that has no formula.
    """
    known = supplied(program, parameters, batch)
    sites: list[tuple[Site, Tensor]] = []
    uses: list[Use] = []
    of_parameters, front = program.cut.of_parameters, {*program.cut.front}
    chosen = front | {*program.cut.fixed}
    constants = program.recording.constants

    def value(node: fx.Node) -> Any:
        return constants[node.target] if node.op == "get_attr" else known[node]  # type: ignore[index]

    with torch.enable_grad():
        for node in program.recording.graph.nodes:
            if node not in chosen:
                continue
            args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), value)
            result = node.target(*args, **kwargs)
            if node in front and node not in of_parameters and of_parameters & {*node.all_input_nodes}:
                joined = node.target is aten.cat.default  # whose operands stand in a list
                operands = [*node.args[0], *node.args[1:]] if joined else [*node.args]
                args = (*args[0], *args[1:]) if joined else args
                places = [i for i, a in enumerate(operands) if isinstance(a, fx.Node) and a in of_parameters]
                inside = {operands[i] for i in places}
                if node.target not in FORMULAS or inside != of_parameters & {*node.all_input_nodes}:
                    raise NotCoveredError(str(node.target))
                first, *others = result if isinstance(result, tuple) else (result,)
                if not first.requires_grad:
                    first = first.detach().requires_grad_()
                result = (first, *others) if isinstance(result, tuple) else first
                given = [*args]
                for place in places:
                    operand = args[place]
                    alike = tuple(
                        i
                        for i, (n, step) in enumerate(zip(operand.shape, operand.stride(), strict=True))
                        if n > 1 and step == 0
                    )
                    uses.append(Use(len(sites), place, operands[place], alike))
                    given[place] = once(operand, alike)
                args = tuple(given)
                sites.append((Site(node.target, args, kwargs, first.shape), first))
            known[node] = result
    return Pass([known[node] for node in program.cut.values], sites, uses, known)


def signals(found: Pass, rows: Tensor) -> list[Tensor]:
    """What comes back to each site from the values that cross the cut, for one vector [n, M]."""
    reached = [
        (v, g) for v, g in zip(found.values, root.split(rows, found.values), strict=True) if v.requires_grad
    ]
    outputs = [output for _, output in found.sites]
    if not reached:
        return [torch.zeros_like(output) for output in outputs]
    values, weights = zip(*reached, strict=True)
    return list(grad(values, outputs, weights, retain_graph=True, materialize_grads=True))


class Plan(NamedTuple):
    """How the gradients of samples are put together, the same for all tiles.

    Attributes:
        axes: where samples lie at each site.
        direct: the uses whose squared norms are those of one parameter, with its index.
        summed: the other uses, each with its parameters.
        size: the elements of the gradients of a sample that have to be formed.
        operations: of the sites, by which a recording is known again.
    """

    axes: tuple[Axis, ...]
    direct: Mapping[int, int]
    summed: Mapping[int, tuple[int, ...]]
    size: int
    operations: tuple[Any, ...]


def plan(program: Program, parameters: Sequence[Tensor], batch: Batch) -> Plan:
    """Finds the plan on a tile of a few samples.

    Raises:
        NotCoveredError: samples cannot be told apart at a site.
    """
    count = samples(batch)
    found = forward(program, parameters, batch)
    axes = _axes(found, count)
    inputs = {node: i for i, node in enumerate(program.inputs[: len(parameters)])}
    owners = [tuple(sorted(_sources(use.node, inputs))) for use in found.uses]
    shared = [i for i in inputs.values() if sum(i in of for of in owners) > 1]
    direct, summed = {}, {}
    for number, (use, of) in enumerate(zip(found.uses, owners, strict=True)):
        moving = tuple(i for i in of if program.inputs[i] in program.cut.of_parameters)
        if len(moving) == 1 and moving[0] not in shared and _rearranges(use, program, moving[0], parameters):
            direct[number] = moving[0]
        else:
            summed[number] = moving
    formed = {i for of in summed.values() for i in of}
    size = sum(parameters[i].numel() for i in formed)
    return Plan(axes, direct, summed, size, tuple(site.operation for site, _ in found.sites))


def _axes(found: Pass, count: int) -> tuple[Axis, ...]:
    """Where samples lie at each site: where the signal is that comes from one sample's values alone."""
    if count == 1:
        return tuple(Axis(0, True) for _ in found.sites)
    which = count // 2
    generator = torch.Generator().manual_seed(0)
    rows = root.flat(found.values, count)
    single = torch.zeros_like(rows)
    single[which] = torch.randn(rows.shape[1], generator=generator).to(rows)
    axes = []
    for signal in signals(found, single):
        for axis in _candidates(signal.shape, count):
            apart = by_sample(signal, axis, count)
            if not any(bool(apart[i].any()) for i in range(count) if i != which):
                axes.append(axis)
                break
        else:
            raise NotCoveredError("samples are mixed")
    return tuple(axes)


def _candidates(shape: Sequence[int], count: int) -> list[Axis]:
    found = []
    for axis, size in enumerate(shape):
        if size % count == 0 and size:
            found += [Axis(axis, True)] + [Axis(axis, False)] * (size > count)
    return found


def _sources(node: fx.Node, inputs: Mapping[fx.Node, int]) -> set[int]:
    """The parameters that a node is computed of."""
    if node in inputs:
        return {inputs[node]}
    return set().union(*(_sources(arg, inputs) for arg in node.all_input_nodes))


def _chain(node: fx.Node) -> list[fx.Node]:
    """The operations that make a node of parameters, in order."""
    found: dict[fx.Node, None] = {}

    def visit(node: fx.Node) -> None:
        if node.op == "call_function" and node not in found:
            for arg in node.all_input_nodes:
                visit(arg)
            found[node] = None

    visit(node)
    return list(found)


def _rearranges(use: Use, program: Program, index: int, parameters: Sequence[Tensor]) -> bool:
    """Whether what meets data there is the parameter itself, its elements in another order or shape."""
    chain = _chain(use.node)
    if any(node.target not in VIEWS for node in chain):
        return False
    parameter = parameters[index]
    known: dict[fx.Node, Any] = {
        program.inputs[index]: torch.arange(parameter.numel(), device=parameter.device).view(parameter.shape)
    }
    run(chain, known, program.recording)
    image = use.image(known)
    if image.numel() != parameter.numel():
        return False
    hit = torch.zeros(parameter.numel(), dtype=torch.bool, device=parameter.device)
    hit[image.reshape(-1)] = True
    return bool(hit.all())


def contributions(
    program: Program,
    plan: Plan,
    parameters: Sequence[Tensor],
    batch: Batch,
    columns: Callable[[root.Product, Sequence[Tensor], int], root.Columns],
) -> Tensor:
    """What each sample and each parameter adds to the trace on a tile, [n, parameters] float64."""
    count = samples(batch)
    found = forward(program, parameters, batch)
    if tuple(site.operation for site, _ in found.sites) != plan.operations:
        raise NotCoveredError("tiles differ")
    total = torch.zeros(count, len(parameters), dtype=torch.float64, device=parameters[0].device)
    if not found.values or not found.sites:
        return total
    product = root.curvature(lambda v: program.criterion(v, found.known, batch), found.values, count)
    chosen = columns(product, found.values, count)
    with torch.no_grad():
        for rows, signs in zip(chosen.columns, chosen.signs, strict=True):
            back = signals(found, rows)
            formed: dict[int, Tensor] = {}
            for number, use in enumerate(found.uses):
                gradients = _at(found, plan, use, back, count)
                if number in plan.direct:
                    total[:, plan.direct[number]] += signs * gradients.squares()
                else:
                    _pull(use, gradients, plan.summed[number], program, parameters, formed)
            for i, gradient in formed.items():
                total[:, i] += signs * gradient.flatten(1).square().sum(1)
    return total


def _at(found: Pass, plan: Plan, use: Use, back: Sequence[Tensor], count: int) -> Gradients:
    site, _ = found.sites[use.site]
    return FORMULAS[site.operation](site, use.place, back[use.site], plan.axes[use.site], count)


def _pull(
    use: Use,
    gradients: Gradients,
    of: Sequence[int],
    program: Program,
    parameters: Sequence[Tensor],
    formed: dict[int, Tensor],
) -> None:
    """Adds the gradients of samples with respect to what meets data, as those of the parameters it is made of."""
    known: dict[fx.Node, Any] = dict(zip(program.inputs, parameters, strict=False))
    leaves = [parameters[i].detach().requires_grad_() for i in of]
    known |= {program.inputs[i]: leaf for i, leaf in zip(of, leaves, strict=True)}
    with torch.enable_grad():
        run(_chain(use.node), known, program.recording)
    image = use.image(known)
    dense = gradients.dense(image.shape)
    if image is leaves[0]:
        pulled: Sequence[Tensor] = [dense]
    else:
        pulled = grad(image, leaves, dense, is_grads_batched=True)
    for i, gradient in zip(of, pulled, strict=True):
        formed[i] = formed[i] + gradient if i in formed else gradient
