"""Metrics say how a model and data make a loss; bound to a model, a metric gives an Objective."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bridges import optimizers
from bridges.metrics._batches import available, move, ordinary
from bridges.metrics._guard import Guard
from bridges.metrics._measures import translated_metrics
from bridges.models import Borrowed, Task, behave, precision, unwrap
from lla_func.objective import Batch, Objective, Weight, Weighted, check, combined, weighed


class Metric:
    """A loss of a model on data. Subclass it to describe any pipeline, in one of three ways.

    - Define ``loss(model, batch)``, which returns a scalar tensor.
    - Define ``__call__(model_wrapper, model=None, batch=None, use_wrapper=True, return_pred=False)`` as in the
      original LLA: with ``use_wrapper=False, return_pred=True`` it returns the tensors (loss, prediction).
    - Define ``__call__(model)``, with the data inside. If it returns a number instead of a tensor, there are
      landscapes of it but no derivatives.

    Modules that the metric has as attributes (a criterion, a teacher) take part as constants, in evaluation mode.

    Attributes:
        inputs, target: the data; a batch is the pair of them.
        device: where everything is computed.
        separable: whether the loss of a batch is the mean (or sum) of the losses of its parts. Unless a subclass
            declares it, batches are never cut.
        reduction: ``"mean"`` or ``"sum"``, how the losses of several batches combine.
        weight: maps a batch to what its loss is a mean over; None for the number of its samples.
        metrics: further values at each point by name (:func:`bridges.metrics.translated_metrics`).

    Example:
        >>> class Decay(Metric):
        ...     def loss(self, model, batch):
        ...         return sum(p.square().sum() for p in model.parameters())
        >>> objective = Decay().objective(nn.Linear(2, 1))
        >>> bool(objective.loss(2 * objective.theta, ()) == 4 * objective.loss(objective.theta, ()))
        True
    """

    inputs: Any = None
    target: Any = None
    device: Any = "cpu"
    separable: bool | None = False
    reduction: str = "mean"
    weight: Weight | None = None
    metrics: Mapping[str, Any] = {}

    _returns_predictions: bool = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._returns_predictions = "return_pred" in inspect.signature(cls.__call__).parameters

    def __init__(self, inputs: Any = None, target: Any = None, device: Any = "cpu") -> None:
        self.inputs = inputs
        self.target = target
        self.device = available(device)

    @property
    def batches(self) -> Iterable[Batch]:
        """The data as batches: here one pair of inputs and target, or an empty batch if there are none."""
        if self.inputs is None:
            return [()]
        return [move((self.inputs, self.target), torch.device(self.device))]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of the model on a batch, a scalar."""
        if type(self).__call__ is Metric.__call__:
            raise TypeError(f"{type(self).__name__} needs a method loss(model, batch) or __call__(model)")
        if self._returns_predictions:
            result = self(None, model=model, batch=batch, use_wrapper=False, return_pred=True)
            return result[0] if isinstance(result, (tuple, list)) else result
        return self(model)

    def __call__(
        self,
        model_wrapper: Any = None,
        model: nn.Module | None = None,
        batch: Batch | None = None,
        use_wrapper: bool = True,
        return_pred: bool = False,
    ) -> Any:
        """The loss over all the data as a number, or with ``return_pred`` (loss, None) on one batch as a tensor."""
        module = unwrap(model_wrapper if use_wrapper else model)
        batches = self.batches if batch is None else [batch]
        if return_pred:
            return self.loss(module, next(iter(batches))), None
        return total(self, partial(Guard(), self.loss, module), batches)

    def objective(
        self,
        model: nn.Module,
        *,
        batchnorm: str = "eval",
        dropout_seed: int | None = None,
        dtype: Any = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> Objective:
        """The loss as a pure function of the model's trainable parameters.

        Args:
            model: any ``nn.Module``; it is used in place during calls and left as it was.
            batchnorm: ``"eval"``, ``"batch"`` or ``"recalibrate"`` (:func:`bridges.models.behave`).
            dropout_seed: None for no dropout, or the seed of masks that are equal at every point.
            dtype: ``torch.float32`` or ``torch.float64`` to evaluate a copy of the model, and of the data, in this
                precision: for models in bfloat16, whose losses are too coarse for a landscape.
            metrics: further ones beside those of the metric itself.

        Raises:
            TypeError: ``model`` is no module that can be borrowed.
            ValueError: it has nothing to train or mixed dtypes or NaN, or an option is unknown.
        """
        device, wanted = available(self.device), precision(dtype)
        batches = ordinary(self.batches)
        held = [value for value in vars(self).values() if isinstance(value, nn.Module)]
        borrowed = Borrowed(model, held=held, device=device, dtype=wanted)
        guard = Guard(wanted)
        behavior = behave(
            borrowed, partial(guard, self.loss), batches, batchnorm=batchnorm, dropout_seed=dropout_seed
        )
        objective = Objective(
            loss=behavior.loss,
            theta=borrowed.theta,
            layout=borrowed.layout,
            batches=batches,
            separable=False,
            reduction=self.reduction,
            adapt=behavior.adapt,
            notes=behavior.notes | ({} if wanted is None else {"dtype": f"a copy in {wanted}"}),
            named=True,
            weight=self.weight if callable(self.weight) else None,
        )
        if parts := self._parts():
            predict, judge = parts

            def criterion(found: Any, batch: Batch) -> Tensor:
                judged = partial(guard, lambda model, given: judge(model, (found, given)), part="criterion")
                return behavior.at(judged)(borrowed.theta, batch)

            predicted = partial(guard, predict, part="outputs")
            objective = objective._replace(
                outputs=behavior.at(predicted),
                criterion=criterion,
                per_sample=self._per_sample(guard),
                adapt_outputs=None if behavior.adapted is None else behavior.adapted(predicted),
            )
        if beside := {**self.metrics, **(metrics or {})}:
            options: dict[str, Any] = {"batchnorm": batchnorm, "dropout_seed": dropout_seed}
            options |= {} if dtype is None else {"dtype": dtype}
            measures = translated_metrics(beside, model, guard, device=device, **options)
            objective = objective._replace(metrics=measures)
        # Of streamed data only the beginning is checked here; each batch is checked again as it comes.
        check(objective._replace(batches=batches if isinstance(batches, list) else list(islice(batches, 1))))
        return self._tried(objective, behavior.mixes)

    def _tried(self, objective: Objective, mixes: bool) -> Objective:
        """The objective with what only a trial can tell; batches may not be cut where layers mix samples."""
        return objective._replace(separable=bool(self.separable) and not mixes)

    def _parts(self) -> tuple[Task, Task] | None:
        """The loss in two tasks, if it splits: a model's outputs on a batch, and the loss of (outputs, batch)."""
        return None

    def _per_sample(self, guard: Guard) -> Callable[[Any, Batch], Any] | None:
        """The losses of single samples, of (outputs, batch), if they are known."""
        return None

    def moments(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> optimizers.Moments:
        """The moments of an Adam-like optimizer, see :func:`bridges.optimizers.moments`."""
        return optimizers.moments(model, optimizer, device=self.device)


class _Function(Metric):
    """A function of the model, with the data inside."""

    def __init__(self, function: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        self._function = function

    def __call__(self, model: nn.Module) -> Any:  # type: ignore[override]
        """The loss of the model."""
        return self._function(model)

    def objective(self, model: nn.Module, **options: Any) -> Objective:
        """The loss as a pure function, where the model is."""
        self.device = next((p.device for p in unwrap(model).parameters()), torch.device("cpu"))
        return super().objective(model, **options)


def metric_of(function: Callable[[nn.Module], Any]) -> Metric:
    """A function of the model alone as a metric.

    Args:
        function: returns the loss, a tensor without axes; or a number, which has landscapes but no derivatives.

    Raises:
        TypeError: it is a criterion, which needs data.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> objective = metric_of(lambda model: model(torch.ones(1, 2)).square().sum()).objective(model)
        >>> objective.theta.shape
        torch.Size([3])
    """
    if isinstance(function, nn.Module):
        raise TypeError(
            f"metric is {type(function).__name__}, a criterion without data; pass "
            "bridges.metrics.Loss(criterion, inputs, targets), or a function of the model that returns the loss"
        )
    return _Function(function)


class Combination(NamedTuple):
    """How the losses of batches combine."""

    reduction: str
    weight: Weight | None


def total(how: Weighted, loss_of: Callable[[Batch], Any], batches: Iterable[Batch]) -> float:
    """The loss over all batches that count, as a number."""
    losses, weights = [], []
    for weight, batch in weighed(how, batches):
        losses.append(torch.tensor(_number(loss_of, batch), dtype=torch.float64))
        weights.append(weight)
    return float(combined(how, losses, weights))


def _number(loss: Callable[[Batch], Any], batch: Batch) -> float:
    """The loss on a batch as a number, with a graph, which takes memory, only where the loss cannot do without."""
    try:
        with torch.no_grad():
            return float(loss(batch))
    except RuntimeError as error:
        if "not require grad" not in str(error):
            raise
    with torch.enable_grad():  # it differentiates on its way
        return float(loss(batch).detach())
