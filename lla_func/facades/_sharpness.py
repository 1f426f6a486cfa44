"""sharpness: how sharp the minimum is that a network was trained to."""

from __future__ import annotations

from typing import Any

from lla_func._torch import noticed, plainly
from lla_func.assessment import SHARPNESS, check_options
from lla_func.facades._common import objective_of
from lla_func.options import Setup
from lla_func.spectrum import Estimate


def sharpness(
    model: Any,
    metric: Any = None,
    *,
    kind: str = "sam",
    device: Any = None,
    batchnorm: str = "eval",
    dropout_seed: int | None = None,
    dtype: Any = None,
    **options: Any,
) -> Estimate:
    """How sharp the loss is around a trained network, as a number with its errors.

    =============== ====================================================================================
    kind            what it is, and its options
    =============== ====================================================================================
    ``sam``         rise after one step of length rho along the gradient: rho, over_data
    ``sam_max``     rise within a ball of radius rho, maximized, so a lower bound: rho, steps, restarts,
                    tol, predict, seed, over_data
    ``asam``        as sam, in units of the weights: rho, eta, over_data
    ``asam_max``    as sam_max, in units of the weights: eta, and those of sam_max
    ``average``     mean rise under random moves: rho, draws, relative, seed, over_data
    ``critical_lr`` learning rate from which on a step raises the loss: tol, over_data
    ``basin``       distance along filter-normalized directions to a rise: rise, draws, quantile, tol, seed
    ``pac_bayes``   largest noise with no more than a rise in the mean: rise, draws, relative, tol, seed,
                    over_data
    =============== ====================================================================================

    Definition, unit, cost, source and defaults of each stand with its function, such as
    :func:`lla_func.assessment.sam`. Invariant under rescaling of the layers of a ReLU network are ``asam`` and
    ``asam_max`` with ``eta=0``, ``average`` and ``pac_bayes`` with ``relative=True``, and ``basin``.

    Args:
        model: an ``nn.Module``, or an :class:`~lla_func.Objective` (then without metric).
        metric: what the loss is: ``bridges.metrics.Loss(criterion, inputs, targets)``, or a function of the model.
        kind: which sharpness.
        device: where to compute; it must be the metric's device, which is the default.
        batchnorm: statistics of BatchNorm: eval (stored), batch (of the data) or recalibrate (anew at each point,
            without gradients: for average, basin and pac_bayes).
        dropout_seed: evaluate with dropout active, the same mask at every point; by default it is off.
        dtype: float32 or float64 to evaluate a copy of the model and of the data in this precision. Models in bfloat16
            or float16 need it: their weights cannot hold small steps.
        options: of the kind, as in the table.

    Returns:
        an :class:`~lla_func.spectrum.Estimate`: the value, its error, the error over data where the losses of single
        samples are at hand, and in ``products`` the passes over the data, a gradient or a Hessian product counting
        as one.

    Raises:
        ValueError, TypeError: an argument is wrong, or the loss has no such sharpness; the message names it, its
            value and what is allowed.

    Example:
        >>> import torch
        >>> from lla_func import from_loss
        >>> bowl = from_loss(lambda theta, _: theta.square().sum() / 2, torch.tensor([3.0, 4.0], dtype=torch.float64))
        >>> round(sharpness(bowl, kind="sam", rho=1.0).value, 9)
        5.5
    """
    check_options(kind, options)  # before the model is looked at
    setup = Setup(device=device, batchnorm=batchnorm, dropout_seed=dropout_seed, dtype=dtype)
    with noticed(), plainly():
        return SHARPNESS[kind](objective_of(model, metric, setup), **options)
