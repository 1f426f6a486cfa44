"""Metrics: what is done with a model and data to get a loss; bound to a model, a metric gives an Objective."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import loss as criteria

from bridges import batches as data
from bridges import optimizers
from bridges.batchnorm import behave
from bridges.modules import Borrowed, unwrap
from lla_func.errors import one_of
from lla_func.objective import Batch, Objective, check, samples, tiles

__all__ = ["Loss", "Metric", "ModelWrapper", "wrap_model"]


class ModelWrapper:
    """A model in the form that metrics of the original LLA expect: ``wrapper.forward(*inputs)``.

    The original freezes the parameters of the model it wraps; here wrapping changes nothing.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = unwrap(model)

    @property
    def modules(self) -> list[nn.Module]:
        """The wrapped modules."""
        return [self.model]

    def forward(self, *inputs: Any, enc: bool = False, **options: Any) -> Any:
        """Calls the model, or with ``enc=True`` its ``encoder``."""
        return (self.model.encoder if enc else self.model)(*inputs, **options)

    __call__ = forward

    def parameters(self) -> Iterable[nn.Parameter]:
        """The model's parameters."""
        return self.model.parameters()

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """The model's parameters with their names."""
        return self.model.named_parameters()

    def train(self, mode: bool = True) -> ModelWrapper:
        """Sets training mode."""
        self.model.train(mode)
        return self

    def eval(self) -> ModelWrapper:
        """Sets evaluation mode."""
        return self.train(False)


def wrap_model(model: nn.Module | ModelWrapper) -> ModelWrapper:
    """The model as a :class:`ModelWrapper`."""
    return model if isinstance(model, ModelWrapper) else ModelWrapper(model)


class Metric:
    """A loss of a model on data. Subclass it to describe any pipeline, in one of three ways.

    - Define ``loss(model, batch)``, which returns a scalar tensor.
    - Define ``__call__(self, model_wrapper, model=None, batch=None, use_wrapper=True, return_pred=False)`` as the
      original LLA has it: called with ``use_wrapper=False, return_pred=True`` it returns (loss, prediction).
    - Define ``__call__(self, model)`` with the data inside. If it returns a number instead of a tensor, there are
      landscapes of it but no derivatives.

    Modules that the metric has as attributes (a criterion, a teacher) take part as constants, in evaluation mode.

    Attributes:
        inputs, target: the data; a batch is the pair of them.
        device: where everything is computed.
        separable: whether the loss of a batch is the mean (or sum) of the losses of its parts; False unless declared.
        reduction: ``"mean"`` or ``"sum"``, how the losses of several batches combine.

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

    def __init__(self, inputs: Any = None, target: Any = None, device: Any = "cpu") -> None:
        self.inputs = inputs
        self.target = target
        self.device = data.available(device)

    @property
    def batches(self) -> Iterable[Batch]:
        """The data as batches: here one pair of inputs and target, or an empty batch if there are none."""
        if self.inputs is None:
            return [()]
        return [data.move((self.inputs, self.target), torch.device(self.device))]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of the model on a batch, a scalar."""
        call = type(self).__call__
        if call is Metric.__call__:
            raise TypeError(f"{type(self).__name__} needs a method loss(model, batch) or __call__(model)")
        if "return_pred" in inspect.signature(call).parameters:
            result = self(None, model=model, batch=batch, use_wrapper=False, return_pred=True)
            return result[0] if isinstance(result, (tuple, list)) else result
        return self(model)  # type: ignore[return-value]

    def __call__(
        self,
        model_wrapper: Any = None,
        model: nn.Module | None = None,
        batch: Batch | None = None,
        use_wrapper: bool = True,
        return_pred: bool = False,
    ) -> Any:
        """The loss as a number, over all the data unless a batch is given."""
        model = unwrap(model_wrapper if use_wrapper else model)
        batches = self.batches if batch is None else [batch]
        with torch.no_grad():
            return _combined(((self.loss(model, batch), samples(batch)) for batch in batches), self.reduction)

    def objective(
        self, model: nn.Module, *, batchnorm: str = "eval", dropout_seed: int | None = None
    ) -> Objective:
        """The loss as a pure function of the model's trainable parameters.

        Args:
            model: any ``nn.Module``; it is used in place during calls and left as it was.
            batchnorm: ``"eval"``, ``"batch"`` or ``"recalibrate"`` (:func:`bridges.batchnorm.behave`).
            dropout_seed: None for no dropout, or the seed of masks that are equal at every point.

        Raises:
            TypeError: ``model`` is no module that can be borrowed.
            ValueError: it has nothing to train or mixed dtypes or NaN, or an option is unknown.
        """
        device = data.available(self.device)
        batches = self.batches
        held = [value for value in vars(self).values() if isinstance(value, nn.Module)]
        borrowed = Borrowed(model, self.loss, held=held, device=device)
        behaviour = behave(borrowed, batches, batchnorm=batchnorm, dropout_seed=dropout_seed)
        objective = Objective(
            loss=behaviour.loss,
            theta=borrowed.theta,
            layout=borrowed.layout,
            batches=batches,
            separable=False,
            reduction=self.reduction,
            adapt=behaviour.adapt,
            notes=behaviour.notes,
        )
        # Of streamed data only the beginning is checked here; each batch is checked again as it comes.
        check(objective._replace(batches=batches if isinstance(batches, list) else list(islice(batches, 1))))
        return objective._replace(separable=not behaviour.mixes and self._separable(objective))

    def _separable(self, objective: Objective) -> bool:
        """Whether batches may be cut, where the layers of the model allow it."""
        return bool(self.separable)

    def moments(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> optimizers.Moments:
        """The moments of an Adam-like optimizer as vectors along theta (:func:`bridges.optimizers.moments`)."""
        return optimizers.moments(model, optimizer, device=self.device)


class Loss(Metric):
    """A criterion on the predictions of a model: the two-line way from a model to an objective.

    Unlike the original, targets keep their dtype (there they become integers, which rules out regression and soft
    labels), and the optional arguments decide how batches combine.

    Args:
        criterion: maps (prediction, targets) to a scalar: a module of ``torch.nn`` or any function.
        inputs: a tensor; a tuple of tensors (several positional inputs of the model) or a dict (keyword arguments).
            Axis 0 counts the samples.
        targets: a tensor, or any pytree of tensors.
        device: where to compute. Data is moved there once, not copied if it is there already.
        reduction: ``"mean"`` or ``"sum"``: what the criterion does over samples; by default as it says itself.
        separable: whether the loss of a batch is the mean (or sum) of the losses of its parts. By default it is if
            the criterion is a known one (no class weights, no ignored targets) and a trial at the model's parameters
            confirms it for the model; otherwise it isn't, which only costs speed.

    Raises:
        TypeError: ``criterion`` can't be called, or the data isn't made of tensors.
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
        criterion: Callable[[Any, Any], Tensor],
        inputs: Any,
        targets: Any,
        device: Any = "cpu",
        *,
        reduction: str | None = None,
        separable: bool | None = None,
    ) -> None:
        found = data.available(device)
        self._bind(criterion, [data.checked(inputs, targets, found)], found, reduction, separable)

    @classmethod
    def from_loader(
        cls,
        criterion: Callable[[Any, Any], Tensor],
        loader: Iterable[Any],
        device: Any = "cpu",
        *,
        resident: bool | None = None,
        reduction: str | None = None,
        separable: bool | None = None,
    ) -> Loss:
        """The loss over everything that a loader yields, each batch weighted by its samples.

        Args:
            criterion, device, reduction, separable: as for the class.
            loader: a DataLoader, or any iterable of pairs (inputs, targets). Shuffling and augmentation are drawn
                once and for all: every pass over the data gives the same batches.
            resident: True to keep the data on the device, False to stream it in every pass; None to keep what fits
                into a quarter of the free memory.

        Example:
            >>> pairs = [(torch.randn(4, 2), torch.randn(4, 1)), (torch.randn(1, 2), torch.randn(1, 1))]
            >>> len(Loss.from_loader(nn.MSELoss(), pairs).batches)
            2
        """
        metric = cls.__new__(cls)
        found = data.available(device)
        metric._bind(
            criterion, data.from_loader(loader, found, resident=resident), found, reduction, separable
        )
        return metric

    def _bind(
        self,
        criterion: Callable[[Any, Any], Tensor],
        batches: Iterable[Batch],
        device: torch.device,
        reduction: str | None,
        separable: bool | None,
    ) -> None:
        self.criterion = criterion
        self.reduction = _reduction(criterion, reduction)
        self.separable = separable
        self.device = device
        self._batches = batches
        self.inputs, self.target = next(iter(batches))

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
            return self._on(run, (self.inputs, self.target) if batch is None else batch)
        batches = self.batches if batch is None else [batch]
        with torch.no_grad():
            return _combined(((self._on(run, batch)[0], samples(batch)) for batch in batches), self.reduction)

    def _on(self, run: Callable[..., Any], batch: Batch) -> tuple[Tensor, Any]:
        """The loss on one batch, and the prediction."""
        inputs, targets = data.move(tuple(batch), torch.device(self.device))
        if isinstance(inputs, Mapping):
            prediction = run(**inputs)
        elif isinstance(inputs, tuple):
            prediction = run(*inputs)
        else:
            prediction = run(inputs)
        return self.criterion(prediction, targets), prediction

    def _separable(self, objective: Objective) -> bool:
        if self.separable is not None or type(self).__call__ is not Loss.__call__:
            return bool(self.separable)
        return _averages(self.criterion, self.batches) and _confirmed(objective)


def _combined(parts: Iterable[tuple[Tensor, int]], reduction: str) -> float:
    """The sample-weighted mean of losses, or their sum."""
    losses, weights = zip(*parts, strict=True)
    if reduction == "sum":
        return sum(float(loss) for loss in losses)
    return sum(float(loss) * weight for loss, weight in zip(losses, weights, strict=True)) / sum(weights)


def _reduction(criterion: Any, told: str | None) -> str:
    """What a criterion does over samples: as told, as its attribute or its argument's default says, else a mean."""
    if not callable(criterion):
        raise TypeError(
            f"criterion is of type {type(criterion).__name__}, which can't be called; "
            "pass a function of (prediction, targets) or a loss such as torch.nn.CrossEntropyLoss()"
        )
    if isinstance(criterion, type):
        raise TypeError(
            f"criterion is the class {criterion.__name__}; pass an instance: {criterion.__name__}()"
        )
    own = getattr(criterion, "reduction", None)
    if own is None:
        try:
            parameter = inspect.signature(criterion).parameters.get("reduction")
        except ValueError:  # built-in functions have no signature
            parameter = None
        own = None if parameter is None else parameter.default
    if own == "none":
        raise ValueError(
            "criterion has reduction='none', one loss for each sample; construct it with reduction='mean' or 'sum'"
        )
    if told is not None:
        one_of("reduction", told, ("mean", "sum"))
        if own in ("mean", "sum") and own != told:
            raise ValueError(f"reduction={told!r}, but the criterion has reduction={own!r}; leave it out")
        return told
    return "sum" if own == "sum" else "mean"


AVERAGING = (
    *(criteria.L1Loss, criteria.MSELoss, criteria.SmoothL1Loss, criteria.HuberLoss, criteria.KLDivLoss),
    *(criteria.CrossEntropyLoss, criteria.NLLLoss, criteria.BCELoss, criteria.BCEWithLogitsLoss),
    *(
        criteria.PoissonNLLLoss,
        criteria.SoftMarginLoss,
        criteria.MultiLabelSoftMarginLoss,
        criteria.MultiMarginLoss,
    ),
)
"""Criteria that average (or sum) over samples, unless weights or ignored targets change the denominator."""

AVERAGING_FUNCTIONS = (
    *(F.l1_loss, F.mse_loss, F.smooth_l1_loss, F.huber_loss, F.kl_div, F.cross_entropy, F.nll_loss),
    *(F.binary_cross_entropy, F.binary_cross_entropy_with_logits, F.poisson_nll_loss, F.soft_margin_loss),
)
"""Their functional forms."""


def _averages(criterion: Any, batches: Iterable[Batch]) -> bool:
    """Whether a criterion is known to be a mean (or sum) over samples on this data."""
    if criterion in AVERAGING_FUNCTIONS:
        ignored = -100 if criterion in (F.cross_entropy, F.nll_loss) else None
    elif type(criterion) in AVERAGING:
        if criterion.reduction == "sum":
            return True
        if getattr(criterion, "weight", None) is not None:
            return False
        ignored = getattr(criterion, "ignore_index", None)
    else:
        return False
    if ignored is None:
        return True
    if not isinstance(
        batches, list
    ):  # streamed: what is ignored is known only after a pass over all the data
        return False
    labels = (t for _, t in batches if isinstance(t, Tensor) and not t.is_floating_point())
    return not any(bool((label == ignored).any()) for label in labels)


TRIAL = 16
"""The number of samples of a trial."""


def _confirmed(objective: Objective) -> bool:
    """Whether the loss of some samples is that of its parts, combined: cut in two unequal parts, at theta.

    This finds models that mix samples, such as a sequence-first transformer, whose axis 0 isn't the samples.
    """
    whole = next(tiles(next(iter(objective.batches)), TRIAL))
    if (count := samples(whole)) == 1:
        return True
    parts = list(tiles(whole, count // 3 + 1 if count > 2 else 1))
    weights = [samples(part) / count if objective.reduction == "mean" else 1.0 for part in parts]
    with torch.no_grad():
        try:
            expected, *losses = (objective.loss(objective.theta, part).double() for part in (whole, *parts))
        except (RuntimeError, ValueError, IndexError):  # a model for one size of batch: it can't be cut
            return False
    total = sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
    return bool(torch.isclose(total, expected, rtol=torch.finfo(objective.theta.dtype).eps ** 0.5))
