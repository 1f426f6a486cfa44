"""connect: a curve of low loss between two trained networks."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm.auto import tqdm

from lla_func import connectivity
from lla_func._torch import full_precision, noticed, plainly
from lla_func.assessment import with_data_error
from lla_func.connectivity import Curve, State
from lla_func.errors import finite_tensor, shown
from lla_func.facades._common import bridge, objective_of, provenance, theta_like
from lla_func.files import fingerprint
from lla_func.geometry import Chart
from lla_func.landscape import barrier
from lla_func.objective import Objective, loss_at, value
from lla_func.options import Connection, Setup
from lla_func.spectrum import Estimate


def connect(
    model_a: Any,
    model_b: Any,
    metric: Any,
    *,
    kind: str = "bezier",
    bends: int = 1,
    epochs: int = 20,
    lr: float = 0.01,
    optimizer: Any = None,
    batch_size: int | None = None,
    spring: float = 1.0,
    climbing: bool = False,
    steps: int = 41,
    seed: int = 0,
    store: str | Path | None = None,
    dtype: Any = None,
    progress: bool = False,
) -> Curve:
    """A curve between two points in weight space, fitted so that the loss on it is low.

    BatchNorm takes the statistics of each mini-batch while the curve is fitted, and recalibrated ones, of all the data
    at each point, where the barriers are evaluated: between two networks neither one's running statistics fit. The
    models stay as they are.

    Args:
        model_a, model_b: two modules of one architecture; or two vectors theta [P].
        metric: what the loss is: ``bridges.metrics.Loss(criterion, inputs, targets)``, or a function of the model; with
            vectors an :class:`~lla_func.Objective`.
        kind: the curve: a Bezier curve, a polygonal chain, or a nudged elastic band. ``"bezier"`` and ``"chain"`` lower
            the mean loss over the curve (Garipov et al. 2018); ``"band"`` is a chain, too, each of whose pivots goes
            down across it only, while springs keep them apart, so that it follows a path of least loss over a saddle
            (Henkelman and Jonsson 2000); its cost grows with the pivots.
        bends: how many control points, or pivots, there are between the ends.
        epochs: passes over the data.
        lr: the learning rate. It is kept for half of the steps and then falls to a hundredth.
        optimizer: makes the optimizer of the control points, as ``optimizer([points], lr=lr)`` (default:
            torch.optim.Adam with eps=1e-16, for losses of any size). A class of torch.optim, or a function for further
            settings, such as ``functools.partial(torch.optim.SGD, momentum=0.9)``.
        batch_size: samples of a step (default: the batches of the metric as they come, and 128 where it holds its data
            in one). Samples are shuffled within the batches that are cut, and batches that are not streamed among each
            other.
        spring: the stiffness of the springs of a band. The unit is the mean length of its gradients over that of its
            pieces.
        climbing: whether the highest pivot of a band climbs to the saddle (Henkelman, Uberuaga and Jonsson 2000). For
            losses without mini-batches, whose noise would send another one up in every step.
        steps: points at which the barriers are looked for, before the highest place is refined.
        seed: seed of the places along the curve and of the shuffling.
        store: keep the fit in a folder after every step: the same call goes on where it stopped, with the same bits as
            a run that was not interrupted, and gives the finished curve at once.
        dtype: float32 or float64 to fit copies of the models, and of the data, in this precision. Models in bfloat16 or
            float16 need it: their weights do not notice small steps.
        progress: whether to show a progress bar.

    Returns:
        the curve, with the barrier on it and that on the straight line.

    Raises:
        ValueError, TypeError: an argument is wrong, or the two are not alike, or the same; the fit diverges; or
            ``store`` holds another fit.

    Source:
        Garipov, Izmailov, Podoprikhin, Vetrov and Wilson, Loss surfaces, mode connectivity, and fast ensembling of DNNs
        (2018). Each step takes one place of the curve, uniform in t, and one mini-batch.

    Example:
        >>> from lla_func import from_loss
        >>> ring = from_loss(lambda theta, batch: (theta.norm() - 1).square(), torch.tensor([1.0, 0.0]))
        >>> curve = connect(torch.tensor([1.0, 0.1]), torch.tensor([-1.0, 0.1]), ring, epochs=400)
        >>> curve.straight_barrier.value > 0.7, curve.barrier.value < 0.05
        (True, True)
    """
    # The options, gathered by `make signatures`.
    # fmt: off
    connection = Connection(kind=kind, bends=bends, epochs=epochs, lr=lr, optimizer=optimizer,
        batch_size=batch_size, spring=spring, climbing=climbing, steps=steps, seed=seed, store=store,
        dtype=dtype, progress=progress)
    # fmt: on
    with noticed(), plainly():
        asked = _checked(model_a, model_b, metric, connection)
        return _computed(asked)


class Request(NamedTuple):
    """What a call of :func:`connect` asks for, checked.

    Attributes:
        fitted: the objective whose loss is lowered.
        evaluated: the objective in which the barriers are given.
        ends: [2, P].
        options: how to fit.
        like: the first model, None of vectors.
    """

    fitted: Objective
    evaluated: Objective
    ends: Tensor
    options: Connection
    like: Any


def _checked(a: Any, b: Any, metric: Any, options: Connection) -> Request:
    """The request of a call."""
    if isinstance(metric, Objective):
        objective_of(metric, None, Setup(dtype=options.dtype))
        for name, end in (("model_a", a), ("model_b", b)):
            if not isinstance(end, Tensor):
                raise TypeError(
                    f"{name} is of type {type(end).__name__}; with an Objective as metric, pass vectors theta "
                    f"[{len(metric.theta)}]"
                )
            finite_tensor(name, end, (len(metric.theta),))
        fitted = evaluated = metric
        ends = torch.stack([end.detach().to(metric.theta) for end in (a, b)])
    else:
        for name, end in (("model_a", a), ("model_b", b)):
            if isinstance(end, Tensor):
                raise TypeError(
                    f"{name} is a tensor; between vectors theta [P] the metric is an Objective, such as "
                    f"metric.objective(model), not {shown(metric, width=40)}"
                )
        fitted = objective_of(a, metric, Setup(batchnorm="batch", dtype=options.dtype))
        evaluated = objective_of(a, metric, Setup(batchnorm="recalibrate", dtype=options.dtype))
        ends = torch.stack([fitted.theta, _other(b, a, metric, fitted, options)])
    if torch.equal(ends[0], ends[1]):
        raise ValueError("model_a and model_b have the same weights, so there is nothing to connect")
    connectivity.made(options, torch.zeros(1, 1))
    return Request(fitted, evaluated, ends, options, None if isinstance(a, Tensor) else a)


def _other(b: Any, a: Any, metric: Any, fitted: Objective, options: Connection) -> Tensor:
    """The other model's theta, if it is of the same architecture and differs in nothing else than statistics."""
    door = bridge()
    door.check_alike({"model_a": a, "model_b": b})
    differing = door.different_constants([a, b])
    if found := [*differing["frozen"], *differing["buffers"]]:
        what = "frozen" if differing["frozen"] else "a buffer"
        raise ValueError(
            f"{found[0]!r} is {what} and differs between the models, so it would not move along the curve; let it "
            "move in both (requires_grad_(True)), or give both the same values"
        )
    return theta_like(objective_of(b, metric, Setup(batchnorm="batch", dtype=options.dtype)), fitted)


def _computed(asked: Request) -> Curve:
    """The fitted curve with its barriers, or the finished one of a store."""
    options, ends = asked.options, asked.ends
    job = _job(asked)
    with contextlib.ExitStack() as stack:
        folder = None
        if options.store is not None:
            folder = stack.enter_context(_held(options.store, job))
            if (done := _finished(folder)) is not None:
                return replace(done, like=asked.like)
        points = connectivity.start(ends[0], ends[1], options.bends)
        resumed = None if folder is None else connectivity.load(folder, points.device)
        steps = (
            options.epochs
            * connectivity.count(asked.fitted, connectivity.size_of(asked.fitted, options.batch_size)).steps
        )
        bar = stack.enter_context(tqdm(total=steps, unit="step", disable=not options.progress, leave=False))
        stack.enter_context(full_precision())

        def after_step(state: State) -> None:
            if folder is not None:
                connectivity.save(folder, state)

        state = connectivity.fit(
            asked.fitted, points, options, resumed=resumed, after_step=after_step, advance=bar.update
        )
        shape = connectivity.chart_of(state.points, options.kind)
        straight = connectivity.chart_of(ends, "chain")
        curve = Curve(
            points=state.points,
            kind=options.kind,
            barrier=_barrier(asked.evaluated, shape, options.steps),
            straight_barrier=_barrier(asked.evaluated, straight, options.steps),
            history=state.losses,
            settings=_settings(options) | {"ends": job["ends"], **provenance(asked.evaluated)},
            like=asked.like,
        )
        if folder is not None:
            curve.save(folder / RESULT)
        return curve


RESULT = "curve.npz"


def _barrier(objective: Objective, curve: Chart, steps: int) -> Estimate:
    """The barrier on a curve, with its error over data where losses of single samples are known."""
    return with_data_error(barrier(objective, curve, steps=steps), objective, curve)


def _settings(options: Connection) -> dict[str, Any]:
    """The options in JSON's types, but for where the fit is kept and whether a bar is shown."""
    found = options.asdict()
    for name in ("store", "progress"):
        del found[name]
    found["dtype"] = None if options.dtype is None else str(options.dtype).removeprefix("torch.")
    optimizer = connectivity.made(options, torch.zeros(1, 1))
    defaults = {name: repr(each) for name, each in optimizer.defaults.items()}
    return found | {"optimizer": f"{type(optimizer).__name__} {defaults}"}


def _job(asked: Request) -> dict[str, Any]:
    """What makes a fit this one and no other."""
    objective, batches = asked.fitted, asked.fitted.batches
    streamed = not isinstance(batches, Sequence)
    first = next(iter(batches))
    with torch.no_grad():
        loss = float(value(loss_at(objective, asked.ends[0]), asked.ends[0], first))
    if not math.isfinite(loss):
        raise ValueError(f"the loss at model_a is {loss:g}; a curve needs a finite loss at its ends")
    return {
        "ends": fingerprint(asked.ends),
        "data": f"{fingerprint(first)}, first batch" if streamed else fingerprint(list(batches)),
        "loss": loss,
        "settings": _settings(asked.options) | dict(objective.notes),
    }


@contextlib.contextmanager
def _held(store: Any, job: dict[str, Any]) -> Iterator[Path]:
    """The folder of the fit, which no other process works in for the time."""
    folder = connectivity.open_folder(store, job)
    lock = FileLock(folder / "connection.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"store={str(folder)!r} is in use by another process that fits this curve; wait for it"
        ) from error
    try:
        yield folder
    finally:
        lock.release()


def _finished(folder: Path) -> Curve | None:
    """The curve that a folder holds; None where there is none yet, or none that can be read, which is made anew."""
    path = folder / RESULT
    try:
        return Curve.load(path) if path.exists() else None
    except ValueError as error:
        warnings.warn(f"{error}; the curve is made anew", connectivity.DamagedStateWarning, stacklevel=5)
        return None
