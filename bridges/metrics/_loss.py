"""Loss: a criterion and data as a metric."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bridges.metrics._batches import available, checked, formed, from_loader, move
from bridges.metrics._criterion import check_alone, form_of, judged_by, loss_in, output_of
from bridges.metrics._forms import divided, opened
from bridges.metrics._graphs import graphs_in, packed
from bridges.metrics._guard import Guard
from bridges.metrics._measures import translated_metrics
from bridges.metrics._metric import Combination, Metric, total
from bridges.metrics._per_sample import per_sample_of
from bridges.metrics._reduction import averages, known, reduction_of, weight_of
from bridges.metrics._separability import NEITHER, confirmed, reduction_by_trial
from bridges.models import Task
from lla_func.errors import flag, instance
from lla_func.objective import Batch, Objective, Weight, weigh


class Loss(Metric):
    """A criterion on the predictions of a model: the two-line way from a model to an objective.

    Unlike in the original, targets keep their dtype. There they become integers, which rules out regression and soft
    labels; here labels of classes have to be integers already.

    Args:
        criterion: maps (prediction, targets) to a scalar: a module of ``torch.nn`` or any function. A function whose
            first argument is called ``model`` gets the model and the data instead, ``fn(model, batch)``, and returns
            the loss or an output that holds it. None takes the loss from the model's output
            (:func:`bridges.metrics.loss_in`).
        inputs: a tensor, a tuple of tensors (positional inputs of the model), a dict (keyword arguments) or a graph of
            PyTorch Geometric; NumPy arrays will do for tensors. Axis 0 counts the samples; where tensors differ there,
            such as tokens and offsets, that of the first one.
        targets: a tensor, or any pytree of tensors. Without any the criterion gets the prediction alone.
        device: where to compute. Data is moved there once, not copied if it is there already.
        reduction: ``"mean"`` or ``"sum"``, what the criterion does over samples; by default found by itself.
        separable: whether the loss of a batch is the mean (or sum) of the losses of its parts. By default True if
            the criterion is known for it and a trial on a few samples confirms it for the model. False for any other
            function, which only costs speed.
        weight: what the mean over a batch (inputs, targets) is a mean over, a function of the batch. Known are the
            class weights and ignored targets of cross-entropy, and the elements of losses such as ``nn.MSELoss``; for
            any other criterion it is the number of samples.
        metrics: further values at each point by name, computed in the same pass: functions of (predictions, targets)
            that return [B] or [B, K], whose means have standard errors over data, or a number for the batch; metrics of
            torchmetrics; or anything with ``objective(model)``, such as another Loss on test data.
        per_sample: the losses of single samples, a function of (predictions, targets) that returns [B], for standard
            errors over data. Known for the criteria of torch that average.

    Raises:
        TypeError: ``criterion`` cannot be called or needs targets, or the data is not made of tensors.
        ValueError: no samples, different numbers of them, an unknown reduction or device.

    Example:
        >>> x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
        >>> metric = Loss(nn.CrossEntropyLoss(), x, y)
        >>> model = nn.Linear(4, 3)
        >>> objective = metric.objective(model)
        >>> objective.theta.shape, objective.separable
        (torch.Size([15]), True)
        >>> metric(model) == float(objective.loss(objective.theta, (x, y)))
        True
    """

    def __init__(
        self,
        criterion: Callable[..., Any] | None,
        inputs: Any,
        targets: Any = None,
        device: Any = "cpu",
        *,
        reduction: str | None = None,
        separable: bool | None = None,
        weight: Weight | None = None,
        metrics: Mapping[str, Any] | None = None,
        per_sample: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        found = available(device)
        form = form_of(criterion)
        if form == "pair":
            batch = checked(inputs, targets, found)
        else:
            batch = formed(inputs if targets is None else (inputs, targets), form, found)
        self._bind(criterion, [batch], found, reduction, separable, weight)
        self._measure(metrics, per_sample, weight)

    @classmethod
    def from_loader(
        cls,
        criterion: Callable[..., Any] | None,
        loader: Iterable[Any],
        device: Any = "cpu",
        *,
        resident: bool | None = None,
        reduction: str | None = None,
        separable: bool | None = None,
        weight: Weight | None = None,
        metrics: Mapping[str, Any] | None = None,
        per_sample: Callable[[Any, Any], Any] | None = None,
    ) -> Loss:
        """The loss over everything that a loader yields: the same, to rounding, as of all that in one batch.

        Args:
            criterion, device, reduction, separable, weight, metrics, per_sample: as for the class.
            loader: a DataLoader, or any iterable of batches: pairs (inputs, targets), or any other form that
                :mod:`bridges.metrics._forms` lists. Every pass over it gives the same batches, shuffled and augmented
                or not.
            resident: True to keep the data on the device, False to stream it in every pass, None to keep what
                fits into a quarter of the free memory.

        Example:
            >>> pairs = [(torch.randn(4, 2), torch.randn(4, 1)), (torch.randn(1, 2), torch.randn(1, 1))]
            >>> len(Loss.from_loader(nn.MSELoss(), pairs).batches)
            2
        """
        metric = cls.__new__(cls)
        found = available(device)
        batches = from_loader(loader, found, resident=resident, form=form_of(criterion))
        metric._bind(criterion, batches, found, reduction, separable, weight)
        metric._measure(metrics, per_sample, weight)
        return metric

    def _bind(
        self,
        criterion: Callable[..., Any] | None,
        batches: Iterable[Batch],
        device: torch.device,
        reduction: str | None,
        separable: bool | None,
        weight: Weight | None,
    ) -> None:
        if separable is not None:
            flag("separable", separable)
        self._form = form_of(criterion)
        first = next(iter(batches))
        self.inputs, self.target = (first, None) if self._form == "whole" else first
        self.criterion: Callable[..., Any] = output_of if criterion is None else criterion
        criterion = self.criterion
        self._told = (reduction, weight) != (None, None) or known(criterion)
        self.reduction = reduction_of(criterion, reduction)
        if self._form == "pair" and self.target is None:
            check_alone(criterion)
        graph = packed(first) is not None
        if weight is None and self.target is not None:
            weight = weight_of(criterion, () if graph else batches)
        self.weight = graphs_in if weight is None and graph else weight
        self.separable = separable
        self.device = device
        self._batches = batches

    def _measure(
        self,
        metrics: Mapping[str, Any] | None,
        per_sample: Callable[[Any, Any], Any] | None,
        weight: Weight | None,
    ) -> None:
        if metrics is not None:
            instance("metrics", metrics, Mapping, "a dict of metrics by name")
        if per_sample is not None and not callable(per_sample):
            raise TypeError(
                f"per_sample={per_sample!r} cannot be called; pass a function of (predictions, targets)"
            )
        self.metrics = dict(metrics or {})
        known_ones = per_sample_of(self.criterion) if weight is None else None
        self._losses = known_ones if per_sample is None else per_sample

    def _per_sample(self, guard: Guard) -> Callable[[Any, Batch], Any] | None:
        if self._losses is None or self._overridden:
            return None
        return translated_metrics(
            {"per_sample": self._losses}, nn.Module(), guard, device=torch.device(self.device)
        )["per_sample"]

    @property
    def batches(self) -> Iterable[Batch]:
        """The data as batches (inputs, targets) on the metric's device."""
        return self._batches

    def __call__(
        self,
        model_wrapper: Any = None,
        model: nn.Module | None = None,
        batch: Batch | None = None,
        use_wrapper: bool = True,
        return_pred: bool = False,
    ) -> Any:
        """The loss of a model, in the modes it is in; the signature is the original's.

        Args:
            model_wrapper: the model, wrapped or not.
            model: the model if ``use_wrapper`` is False.
            batch: (inputs, targets); by default all the data, with ``return_pred`` the first batch.
            use_wrapper: which of the two to call.
            return_pred: True for (loss, prediction) as tensors that can be differentiated, False for a float.
        """
        run = model_wrapper if use_wrapper else model
        if return_pred:
            first = self.inputs if self._form == "whole" else (self.inputs, self.target)
            return self._on(run, first if batch is None else batch)
        batches = self.batches if batch is None else [batch]
        guard = Guard()
        predict: Callable[[Batch], Any] = (
            partial(guard, self._predict, run, part="outputs") if self._splits else lambda part: ()
        )

        def whole(run: Any, given: Batch) -> Any:
            return self._on(run, given)[0]

        def judge(found: Any, part: Batch) -> Any:
            if not self._splits:
                return guard(whole, run, part)
            return guard(lambda run, given: self._judge(run, (found, given)), run, part, part="criterion")

        how = Combination(self._reduction(predict, judge) or self.reduction, self.weight)
        return total(how, partial(guard, whole, run), batches)

    def _on(self, run: Any, batch: Batch) -> tuple[Tensor, Any]:
        """The loss on one batch, and the prediction."""
        if self._form == "whole":
            batch = formed(batch, "whole", torch.device(self.device))
            return loss_in(self.criterion(run, opened(batch))), None
        batch = divided(batch)
        prediction = self._predict(run, batch)
        return self._judge(run, (prediction, batch)), prediction

    def _predict(self, run: Any, batch: Batch) -> Any:
        return output_of(run, opened(move(batch[0], torch.device(self.device))))

    def _judge(self, run: Any, judged: tuple[Any, Batch]) -> Tensor:
        prediction, batch = judged
        return judged_by(self.criterion, prediction, move(batch[1], torch.device(self.device)))

    @property
    def _splits(self) -> bool:
        """Whether the loss is a criterion of what a model predicts, where a prediction may hold the loss already."""
        return self._form == "pair" and self.target is not None

    def _parts(self) -> tuple[Task, Task] | None:
        return (self._predict, self._judge) if self._splits and not self._overridden else None

    @property
    def _overridden(self) -> bool:
        """Whether a subclass computes the loss in its own way."""
        return type(self).__call__ is not Loss.__call__ or type(self).loss is not Metric.loss

    def _tried(self, objective: Objective, mixes: bool) -> Objective:
        if self._overridden:
            return super()._tried(objective, mixes)
        if objective.outputs is None or objective.criterion is None:
            found = self._reduction(lambda batch: (), lambda _, batch: objective.loss(objective.theta, batch))
        else:
            found = self._reduction(partial(objective.outputs, objective.theta), objective.criterion)
        if found is None:
            warnings.warn(NEITHER, stacklevel=4)
        elif found != objective.reduction:
            notes = {**objective.notes, "reduction": f"{found}, by trial"}
            objective = objective._replace(reduction=found, notes=notes)
        if self.separable is not None:
            return super()._tried(objective, mixes)
        graph = packed(self.inputs) is not None  # whose tensors all count something else
        separable = averages(self.criterion) and not mixes and not graph and confirmed(objective)
        return objective._replace(separable=separable)

    def _reduction(
        self, predict: Callable[[Batch], Any], judge: Callable[[Any, Batch], Tensor]
    ) -> str | None:
        """How the losses of batches combine: as is known, or as a trial on the first one finds; None if it cannot."""
        if self._told or (isinstance(self.batches, list) and len(self.batches) == 1):
            return self.reduction
        weight = partial(weigh, Combination("mean", self.weight))
        return reduction_by_trial(predict, judge, next(iter(self.batches)), weight, said=self.reduction)
