"""An objective whose loss also measures: metrics and errors over data, read off the outputs of the same forward pass.

Its loss is a vector: the loss, and six numbers for each value (:mod:`lla_func.objective._statistics`). An engine treats
it as it treats any loss, on tiles and batches, and combines it by :func:`lla_func.objective.combined`, which gives the
loss, then the values of all metrics, then the errors.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lla_func._torch import without_autocast
from lla_func.objective import _statistics as statistics
from lla_func.objective._metrics import Accumulator, PerSample
from lla_func.objective._objective import Batch, Objective, beginning, risk, samples, tiles

TRIAL = 5
"""How many samples the trial has that finds out what metrics give."""

TURNED = 0.01
"""How much of a metric without an error rounding may change, by turning decisions about samples."""

LOSS = "loss"


class Column(NamedTuple):
    """One metric among the values.

    Attributes:
        name: its name.
        shape: of its value at a point, ``()`` or ``(K,)``.
        sampled: whether it has a value for each sample, and so an error.
    """

    name: str
    shape: tuple[int, ...]
    sampled: bool

    @property
    def size(self) -> int:
        """How many numbers the value has."""
        return math.prod(self.shape)


class Values(NamedTuple):
    """What is known at one theta, or at each of N points.

    Attributes:
        loss: the risk, a float64 scalar on the CPU, or [N].
        metrics: further values by name, scalars or [K], or [N] and [N, K].
        errors: the standard errors over data by name, where they are known.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    errors: dict[str, Tensor]


class Measures(NamedTuple):
    """What a measured loss holds: ``Objective.measures``.

    Attributes:
        columns: the metrics that are read off each batch; the loss first, where its error is asked for.
        gathered: those that gather outputs over all batches.
        accumulators: what gathers them.
    """

    columns: tuple[Column, ...]
    gathered: tuple[Column, ...] = ()
    accumulators: tuple[Accumulator, ...] = ()

    @property
    def raw(self) -> int:
        """The length of a measured loss on a batch."""
        return 1 + statistics.NUMBERS * sum(column.size for column in self.columns)

    @property
    def width(self) -> int:
        """The length of what all batches make of it: the loss, the values, the errors."""
        return 1 + sum(column.size for column in (*self.columns, *self.gathered, *self._sampled))

    @property
    def _sampled(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.sampled)

    def combined(self, losses: Sequence[Tensor], reduction: str) -> Tensor:
        """What is known of all batches, [..., width], from measured losses [..., raw] of each: all but the loss."""
        rows = torch.stack(list(losses)).to("cpu", torch.float64)[..., 1:]
        values, errors, start = [], [], 0
        for column in self.columns:
            part = rows[..., start : start + statistics.NUMBERS * column.size]
            start += statistics.NUMBERS * column.size
            numbers = statistics.merged(list(part.unflatten(-1, (statistics.NUMBERS, column.size))))
            mean, error = statistics.mean_and_error(numbers)
            if column.name == LOSS and reduction == "sum":
                mean, error = (x * numbers[..., statistics.WEIGHT, :] for x in (mean, error))
            values.append(mean)
            errors += [error] if column.sampled else []
        for column, accumulator in zip(self.gathered, self.accumulators, strict=True):
            found = _number(column.name, accumulator.compute())
            if found.shape != column.shape:
                raise ValueError(
                    f"metric {column.name!r} gives shape {list(found.shape)} here, {list(column.shape)} before; a "
                    "metric has one shape at all points"
                )
            values.append(found.to("cpu", torch.float64).reshape(-1))
        return torch.cat([*values, *errors], dim=-1)

    def differing(self, actual: Tensor, expected: Tensor, tolerance: float) -> list[str]:
        """The metrics in which two sets of rows [N, width] differ by more than rounding may do.

        Rounding may also turn a decision about a sample, such as its class. Two samples, or two standard errors, are
        what it may turn.
        """
        mine, theirs = self.split(actual), self.split(expected)
        found = []
        for name, value in theirs.metrics.items():
            other = mine.metrics[name]
            slack = tolerance * value.abs().nan_to_num(0.0, 0.0, 0.0).amax()
            if name in theirs.errors:
                slack = slack + 2 * torch.maximum(mine.errors[name], theirs.errors[name]).nan_to_num(
                    0.0, 0.0, 0.0
                )
            else:
                slack = slack + TURNED * value.abs().nan_to_num(0.0, 0.0, 0.0)
            same = ((other - value).abs() <= slack) | (other == value) | (other.isnan() & value.isnan())
            found += [] if bool(same.all()) else [repr(name)]
        return found

    def split(self, rows: Tensor) -> Values:
        """Loss, metrics and errors by name, of rows [width] or [N, width]."""
        metrics: dict[str, Tensor] = {}
        errors: dict[str, Tensor] = {}
        start = 1
        for found, columns in ((metrics, (*self.columns, *self.gathered)), (errors, self._sampled)):
            for column in columns:
                part = rows[..., start : start + column.size]
                found[column.name] = part.unflatten(-1, column.shape) if column.shape else part[..., 0]
                start += column.size
        metrics.pop(LOSS, None)
        return Values(rows[..., 0], metrics, errors)


def row_shape(measures: Measures | None) -> tuple[int, ...]:
    """The shape of what an objective gives at a point: one number, or a row of them where it measures."""
    return () if measures is None else (measures.width,)


def separate(objective: Objective) -> dict[str, Objective]:
    """The metrics that are objectives of their own."""
    return {name: metric for name, metric in objective.metrics.items() if isinstance(metric, Objective)}


def measured(objective: Objective, *, errors: bool = False) -> Objective:
    """The objective whose loss measures all metrics that are read off outputs; itself where there are none.

    One trial on a few samples finds out what the metrics give.

    Args:
        objective: with its metrics.
        errors: whether the error of the loss is asked for. With metrics it is found where it can be.

    Raises:
        ValueError, TypeError: the objective has no outputs, or no losses of samples, or a metric gives something that
            is neither a value for each sample nor a number; it is named.
    """
    metrics = {k: metric for k, metric in objective.metrics.items() if not isinstance(metric, Objective)}
    for name in objective.metrics:
        if not isinstance(name, str) or name == LOSS or not name:
            raise ValueError(f"metrics has the name {name!r}; names are texts other than 'loss'")
    if errors and objective.per_sample is None:
        raise ValueError(
            "errors=True needs the losses of single samples, which this objective does not have: its criterion is not "
            "one of those known to average over samples. Pass per_sample=, a function of (outputs, batch) that returns "
            "[B], to from_loss, or of (predictions, targets) to bridges.metrics.Loss"
        )
    if not metrics and not errors:
        return objective
    if objective.outputs is None or objective.criterion is None:
        raise ValueError(
            f"metrics {list(metrics)} are read off the model's outputs, but this loss does not split into outputs and "
            "a criterion; pass outputs= and criterion= to from_loss, a criterion of (predictions, targets) to "
            "bridges.metrics.Loss, or an Objective as the metric"
        )
    if objective.adapt is not None and objective.adapt_outputs is None:
        raise ValueError("metrics need adapt_outputs= beside adapt=, for outputs that adapt to theta as well")
    functions: dict[str, Callable[[Any, Batch], Any]] = {}
    if objective.per_sample is not None:
        functions[LOSS] = objective.per_sample
    accumulators = {}
    for name, metric in metrics.items():
        if isinstance(metric, Accumulator):
            accumulators[name] = metric
        elif callable(metric):
            functions[name] = metric
        else:
            raise TypeError(
                f"metrics[{name!r}] is of type {type(metric).__name__}; pass a function of (outputs, batch), an object "
                "with reset, update and compute, or an Objective"
            )
    measures = _tried(objective, functions, accumulators)
    criterion = objective.criterion
    sampled = [column.sampled for column in measures.columns]

    def measure(outputs: Any, batch: Batch) -> Tensor:
        loss = torch.as_tensor(criterion(outputs, batch))
        found = [loss.double().reshape(1)]
        for (name, function), each in zip(functions.items(), sampled, strict=True):
            given = function(outputs, batch)
            if each:
                found.append(statistics.moments(*_per_sample(given)).reshape(-1))
            else:
                found.append(
                    statistics.number(_number(name, given).to(loss.device), samples(batch)).reshape(-1)
                )
        return torch.cat(found)

    outputs_of = objective.outputs

    def loss(theta: Any, batch: Batch) -> Tensor:
        return measure(outputs_of(theta, batch), batch)

    def adapt(theta: Tensor) -> Callable[[Tensor, Batch], Tensor]:
        for accumulator in measures.accumulators:
            accumulator.reset()
        found_at = outputs_of if objective.adapt_outputs is None else objective.adapt_outputs(theta)

        def loss(theta: Tensor, batch: Batch) -> Tensor:
            found = found_at(theta, batch)
            for accumulator in measures.accumulators:
                accumulator.update(_detached(found), batch)
            return measure(found, batch)

        return loss

    return objective._replace(
        loss=loss,
        adapt=adapt if measures.accumulators or objective.adapt is not None else None,
        separable=objective.separable and all(sampled) and not accumulators,
        outputs=None,
        criterion=None,
        measures=measures,
    )


def values(objective: Objective, theta: Tensor | None = None, *, errors: bool = False) -> Values:
    """The risk at theta with all metrics, and the errors over data.

    Args:
        objective: with its metrics.
        theta: [P]; by default the point under study.
        errors: whether the error of the loss is asked for; with metrics it is found where it can be.

    Example:
        >>> from lla_func.objective import from_loss
        >>> line = from_loss(
        ...     lambda a, x: (a * x).mean(), torch.ones(1), [torch.tensor([1.0, 2.0, 6.0])], separable=True,
        ...     outputs=lambda a, x: a * x, criterion=lambda outputs, x: outputs.mean(),
        ...     metrics={"large": lambda outputs, x: outputs > 5})
        >>> found = values(line)
        >>> float(found.loss), round(float(found.metrics["large"]), 3), round(float(found.errors["large"]), 3)
        (3.0, 0.333, 0.333)
    """
    theta = objective.theta if theta is None else theta
    whole = measured(objective, errors=errors)
    row = risk(whole, theta)
    found = Values(row, {}, {}) if whole.measures is None else whole.measures.split(row)
    for name, other in separate(objective).items():
        theirs = values(other, theta, errors=other.per_sample is not None and other.outputs is not None)
        found.metrics[name] = theirs.loss
        if LOSS in theirs.errors:
            found.errors[name] = theirs.errors[LOSS]
    return found


def _tried(
    objective: Objective,
    functions: Mapping[str, Callable[[Any, Batch], Any]],
    accumulators: Mapping[str, Accumulator],
) -> Measures:
    """What the metrics give on a few samples."""
    assert objective.outputs is not None
    batch = beginning(objective, TRIAL)
    with torch.no_grad():
        outputs = _detached(_evaluated(objective, batch))
        count = samples(outputs)
        parts = list(tiles((outputs, batch), count - 1)) if count > 1 else []
        columns = [_column(name, f, outputs, batch, parts) for name, f in functions.items()]
        gathered = []
        for name, accumulator in accumulators.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the few samples, which are not what it will see
                accumulator.reset()
                accumulator.update(outputs, batch)
                found = _number(name, accumulator.compute())
                accumulator.reset()
            gathered.append(Column(name, tuple(found.shape), False))
    if columns and columns[0].name == LOSS and not columns[0].sampled:
        raise ValueError(
            f"per_sample gives {list(columns[0].shape)}; it must give a loss for each sample, [B]"
        )
    return Measures(tuple(columns), tuple(gathered), tuple(accumulators.values()))


def _evaluated(objective: Objective, batch: Batch) -> Any:
    assert objective.outputs is not None
    with torch.enable_grad(), without_autocast():
        return objective.outputs(objective.theta, batch)


def _column(
    name: str, function: Callable[[Any, Batch], Any], outputs: Any, batch: Batch, parts: Sequence[Any]
) -> Column:
    """What a metric gives: for each sample, if it gives one fewer of them for one sample fewer."""
    given = function(outputs, batch)
    if isinstance(given, PerSample):
        found, weights = _per_sample(given)
        if weights is not None and weights.shape not in (found.shape, found.shape[:1]):
            raise ValueError(
                f"metric {name!r} has values of shape {list(found.shape)} and weights of shape {list(weights.shape)}; "
                "one weight for each value, or each sample, is needed"
            )
        return Column(name, tuple(found.shape[1:]), True)
    found, count = _number(name, given), samples(outputs)
    sampled = found.ndim > 0 and len(found) == count
    if sampled and len(parts) > 1:
        sampled = len(_number(name, function(*parts[0]))) == count - 1
    if found.ndim > 1 + sampled:
        raise ValueError(
            f"metric {name!r} gives shape {list(found.shape)} for {count} samples; it may give [B] or [B, K], one "
            "value or K for each sample, or a number or [K] for all of them"
        )
    return Column(name, tuple(found.shape[sampled:]), sampled)


def _per_sample(given: Any) -> tuple[Tensor, Tensor | None]:
    return (given.values, given.weights) if isinstance(given, PerSample) else (given, None)


def _number(name: str, given: Any) -> Tensor:
    """What a metric gives as a tensor of real numbers."""
    if not isinstance(given, Tensor) and not isinstance(given, Real):
        try:
            given = torch.as_tensor(given)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(
                f"metric {name!r} gives {type(given).__name__}; a tensor or a number is needed"
            ) from None
    found = torch.as_tensor(given)
    if found.is_complex():
        raise TypeError(f"metric {name!r} gives complex numbers; real ones are needed")
    return found


def _detached(tree: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, tree)
