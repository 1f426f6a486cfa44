"""What the `lla` command does: a loader's model, data and loss, handed to viz_lla, to viz_esd and to training."""

from __future__ import annotations

import itertools
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import nn

from bridges import loaders, weights
from bridges.command import _options as options
from bridges.command import _training as training
from bridges.command._processes import Team, joined, launched
from bridges.command._resume import remember
from bridges.metrics import available
from bridges.models import Stream, everything
from lla_func import SpectrumResult, layerwise, viz_esd, viz_lla
from lla_func.facades import check_request
from lla_func.files import file_name, writable_directory
from lla_func.hessian import table
from lla_func.landscape import describe
from lla_func.objective import samples
from lla_func.options import Evaluation
from lla_func.spectrum import Criteria

__all__ = ["analyse", "evaluate", "train"]

TRAINING_BATCH = 64


def evaluate(arguments: Namespace) -> None:
    """Draws the landscape around trained weights and prints what was written and the loss at the centre."""
    if arguments.axes == "adam" or arguments.mode == "adameq":
        raise ValueError("--axes adam and --mode adameq need the optimizer's state; use them with lla train")
    if ignored := options.ignored_in(arguments, *options.TRAINING):
        print(f"lla eval: {', '.join(ignored)} matter for lla train only and are ignored", file=sys.stderr)
    file_name("--name", arguments.name)
    device, loader = _device(arguments), loaders.find(arguments.loader)
    if arguments.store is None and launched().size > 1:
        raise ValueError("several processes share the points through a folder; give it with --store DIR")
    with joined(device) as team:
        model = _model(loader, arguments, device)
        inputs, target = _evaluated_batch(loader, arguments)
        print(f"{_described(model)}, {samples((inputs, target))} samples, {device}{_together(team)}")
        metric = _metric(loader, arguments, inputs, target, device)
        asked = _asked(
            arguments,
            f"eval_{arguments.name}",
            sampling="grid" if arguments.tol is None else "chebyshev",
            group=team.group,
        )
        if arguments.store is not None:
            check_request(
                model, metric, device, **asked
            )  # a command that can't run is not worth going on with
            remember(arguments)
        result = _draw(model, metric, device, asked)
    if arguments.plan:
        for landscape, title in zip(result.landscapes, result.titles, strict=True):
            print(f"{title}: {describe(landscape.diagnostics)}")
    print(f"loss at the centre: {result.center_loss:.6g}")


def _together(team: Team) -> str:
    return "" if team.size == 1 else f", {team.size} processes"


def analyse(arguments: Namespace) -> None:
    """Analyses the Hessian at random and at trained weights, and prints the comparison."""
    if ignored := options.ignored_in(arguments, *options.TRAINING, *options.LANDSCAPE):
        print(
            f"lla esd: {', '.join(ignored)} matter for lla eval and lla train only and are ignored",
            file=sys.stderr,
        )
    device, loader = _device(arguments), loaders.find(arguments.loader)
    inputs, target = _evaluated_batch(loader, arguments)
    chosen = {"init": Namespace(**{**vars(arguments), "weights": "None"})}
    if arguments.weights != "None":
        chosen["pretrained"] = arguments
    for stage in chosen:
        file_name("--name", f"esd_{stage}_{arguments.name}")
    models = {stage: _model(loader, options, device) for stage, options in chosen.items()}
    results: dict[str, SpectrumResult] = {}
    with joined(device) as team:
        for stage, model in models.items():
            metric = _metric(loader, arguments, inputs, target, device)
            if not results:
                print(f"{_described(model)}, {samples((inputs, target))} samples, {device}{_together(team)}")
            results[stage] = _analysed(
                arguments, f"esd_{stage}_{arguments.name}", model, metric, group=team.group
            )
    print(_comparison(results))
    for result in results.values():
        for path in result.paths.values():
            print(f"wrote {path}")
    if arguments.layers:
        objective = metric.objective(model, batchnorm=arguments.batchnorm)
        print(table(layerwise(objective, seed=arguments.seed)))


def _analysed(arguments: Namespace, name: str, model: nn.Module, metric: Any, **more: Any) -> SpectrumResult:
    """Calls viz_esd with the command's options."""
    return viz_esd(
        model,
        metric,
        eigs=True,
        top_n=arguments.top_n,
        eigs_n_iter=arguments.eigs_n_iter,
        eigs_tol=arguments.eigs_tol,
        trace=True,
        trace_n_iter=arguments.trace_n_iter,
        trace_tol=arguments.trace_tol,
        esd_n_iter=arguments.esd_n_iter,
        n_v=arguments.n_v,
        max_v=arguments.max_v,
        exp_name=name,
        viz_dir=arguments.viz_dir,
        res_dir=arguments.res_dir,
        calc_crit=True,
        n_kh=arguments.nkh,
        seed=arguments.seed,
        curvature=arguments.curvature,
        parameters=arguments.parameters,
        batchnorm=arguments.batchnorm,
        **more,
    )


def _comparison(results: Mapping[str, SpectrumResult]) -> str:
    """The spectra side by side, one column each."""
    rows: dict[str, list[str]] = {}
    notes = [result.criteria.note for result in results.values() if result.criteria is not None]
    for result in results.values():
        pairs, trace, criteria = result.analysis.eigenpairs, result.analysis.trace, result.analysis.criteria
        assert pairs is not None
        assert trace is not None
        assert criteria is not None
        cells = {
            f"eigenvalue {i}": f"{value:.5g} ({residual:.0e})"
            for i, (value, residual) in enumerate(
                zip(pairs.values.tolist(), pairs.residuals.tolist(), strict=True), start=1
            )
        }
        cells |= {
            "trace": f"{trace.value:.5g} ({trace.standard_error:.0e})",
            "r_e": f"{criteria.r_e.value:.5g}",
            f"K_h{criteria.n:g}": _with_spread(criteria),
            "spectrum": criteria.spectrum,
            "products": str(result.products),
            "seconds": f"{result.seconds:.1f}",
        }
        for label, cell in cells.items():
            rows.setdefault(label, []).append(cell)
    heads = {"init": "random weights", "pretrained": "trained weights"}
    lines = [["", *(heads[stage] for stage in results)], *([label, *cells] for label, cells in rows.items())]
    text = "\n".join("".join(f"{cell:<24}" for cell in line).rstrip() for line in lines)
    return "\n".join([text, *dict.fromkeys(filter(None, notes))])


def _with_spread(criteria: Criteria) -> str:
    """K_hn, with its spread over the starts where there are enough of them."""
    value, spread, _ = criteria.k_hn
    return f"{value:.5g}" if criteria.note else f"{value:.5g} (spread {spread:.1g})"


def train(arguments: Namespace) -> None:
    """Trains a model, draws landscapes on the way, and saves the weights and a log."""
    if launched().size > 1:
        raise ValueError("lla train runs in one process; start it without torchrun")
    file_name("--name", arguments.name)
    device, loader = _device(arguments), loaders.find(arguments.loader)
    folder = writable_directory("--log_dir", arguments.log_dir)
    model = _model(loader, arguments, device)
    splits = loaders.accepts(loader.CustomLoader, "split")
    part = {"split": "train"} if splits else {}
    metric = _metric(loader, arguments, *_first_batch(loader, arguments, **part), device)
    batches = _batches(
        loader,
        arguments,
        batch_size=arguments.batch_size or TRAINING_BATCH,
        shuffle=True,
        shift=arguments.shift or None,
        **part,
    )
    held_out = _batches(loader, arguments, split="test") if splits else None
    optimizer = torch.optim.Adam(model.parameters(), lr=arguments.lr)
    last = arguments.epochs - 1
    if arguments.viz_rate:
        asked = _asked(arguments, f"{arguments.name}_epoch_{last}", optimizer=optimizer)
        check_request(model, metric, device, **asked)
    if held_out is not None:
        training.score(model, metric, itertools.islice(held_out, 1))  # what is wrong with it comes up here
    print(f"{_described(model)}, {device}")
    record = training.log(folder / f"{arguments.name}.jsonl")
    failures: list[Exception] = []

    def after_epoch(epoch: training.Epoch) -> None:
        record(epoch)
        print(_line(epoch), flush=True)
        weights.save(model, folder / f"{arguments.name}.pth")  # whatever happens now, the work is kept
        if arguments.viz_rate and (epoch.epoch == last or epoch.epoch % arguments.viz_rate == 0):
            asked = _asked(arguments, f"{arguments.name}_epoch_{epoch.epoch}", optimizer=optimizer)
            try:
                _draw(model, metric, device, asked)
            except Exception as error:
                failures.append(error)
                print(f"lla train: no landscape of epoch {epoch.epoch}: {error}", file=sys.stderr)

    training.train(
        model,
        metric,
        batches,
        epochs=arguments.epochs,
        schedule=arguments.schedule,
        optimizer=optimizer,
        held_out=held_out,
        seed=arguments.seed,
        after_epoch=after_epoch,
    )
    loss, _ = training.score(model, metric, _batches(loader, arguments, **part))
    print(f"loss over the training data: {loss:.6g}")
    print(f"wrote {folder / arguments.name}.jsonl")
    print(f"wrote {folder / arguments.name}.pth")
    if failures:
        raise failures[0]


def _asked(arguments: Namespace, name: str, **more: Any) -> dict[str, Any]:
    """The options of viz_lla that the command's options ask for."""
    return dict(
        dist=arguments.dist,
        steps=arguments.steps,
        num_plots=arguments.num_plots,
        num_per_plot=arguments.num_per_plot,
        axes=arguments.axes,
        normalization=None if arguments.norm == "None" else arguments.norm,
        order=int(arguments.order),
        cur_name=name,
        mode=arguments.mode,
        viz_dev=arguments.all_modes,
        cap_loss=arguments.losscap,
        viz_dir=arguments.viz_dir,
        res_dir=arguments.res_dir,
        eval_hessian=arguments.hessian or arguments.calc_crit,
        calc_crit=arguments.calc_crit,
        n_kh=arguments.nkh,
        n_v=arguments.n_v,
        seed=arguments.seed,
        freeze=arguments.freeze,
        batchnorm=arguments.batchnorm,
        ignore=arguments.ignore,
        distribution=arguments.distribution,
        hessian_pair=arguments.hessian_pair,
        dim=int(arguments.dim),
        log=arguments.log,
        **options.given(arguments, Evaluation),
        progress=sys.stderr.isatty() and launched().rank == 0,
        **more,
    )


def _draw(model: nn.Module, metric: Any, device: torch.device, asked: Mapping[str, Any]) -> Any:
    """Calls viz_lla and prints what it wrote."""
    result = viz_lla(model, metric, device, **asked)
    points = sum(len(landscape.losses) for landscape in result.landscapes)
    print(f"{points} points in {result.seconds:.1f} s")
    for landscape, title in zip(result.landscapes, result.titles, strict=True):
        if (sampled := landscape.diagnostics["sampling"]) is not None:
            reason = (
                f" ({sampled['reason']})"
                if sampled["reason"]
                else f", within {sampled['error']:.2g} of the range"
            )
            print(f"{title}: {sampled['evaluations']} of {len(landscape.losses)} points evaluated{reason}")
    if result.nonfinite:
        print(f"{result.nonfinite} losses are NaN or infinite; they are holes in the pictures")
    for path in result.paths.values():
        print(f"wrote {path}")
    return result


def _device(arguments: Namespace) -> torch.device:
    """The device asked for, if this machine has it."""
    name = arguments.device if arguments.device is not None else ("cuda" if arguments.cuda else "cpu")
    if arguments.cuda and not name.startswith("cuda"):
        raise ValueError(f"--cuda and --device {name} contradict each other; give one of them")
    if arguments.device is None and arguments.cuda and not torch.cuda.is_available():
        warnings.warn("--cuda was given, but PyTorch finds no GPU; the CPU computes instead", stacklevel=2)
        name = "cpu"
    if name == "cuda" and launched().size > 1:
        name = f"cuda:{launched().local_rank}"
    return available(name)


def _model(loader: ModuleType, arguments: Namespace, device: torch.device) -> nn.Module:
    """The loader's model, with random weights drawn from the seed."""
    chosen: dict[str, Any] = {"device": device}
    if arguments.weights not in (None, "-1"):
        chosen["weight_path"] = None if arguments.weights == "None" else arguments.weights
    if arguments.classes is not None:
        _need(loader.ModelInit, "N_CLASSES", "--classes", arguments)
        chosen["N_CLASSES"] = arguments.classes
    with Stream(arguments.seed, everything(device)), loaders.inside(arguments.loader, "ModelInit"):
        model = loader.ModelInit(**chosen)
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"ModelInit of loader {arguments.loader!r} returns {type(model).__name__}, not an nn.Module"
        )
    return model


def _metric(loader: ModuleType, arguments: Namespace, inputs: Any, target: Any, device: torch.device) -> Any:
    """The loader's loss on a batch."""
    with loaders.inside(arguments.loader, "CustomLoss"):
        return loader.CustomLoss(inputs, target, device)


class _Anew:
    """Batches that are made again for each pass, for loaders whose batches can be gone over only once."""

    def __init__(self, make: Callable[[], Iterable[Any]]) -> None:
        self.make = make

    def __iter__(self) -> Iterator[Any]:
        return iter(self.make())


def _batches(loader: ModuleType, arguments: Namespace, **given: Any) -> Iterable[Any]:
    """The loader's batches; options that are None are left to the loader."""
    if arguments.data not in (None, "-1"):
        given["data_path"] = arguments.data
    chosen = {name: value for name, value in given.items() if value is not None}
    for name in chosen:
        _need(loader.CustomLoader, name, f"--{name}", arguments)
    with loaders.inside(arguments.loader, "CustomLoader"):
        batches = loader.CustomLoader(**chosen)
    return _Anew(lambda: loader.CustomLoader(**chosen)) if isinstance(batches, Iterator) else batches


def _first_batch(loader: ModuleType, arguments: Namespace, **given: Any) -> tuple[Any, Any]:
    """The first unshuffled batch; what it draws at random comes from the seed."""
    with Stream(arguments.seed, everything(torch.device("cpu"))):
        batches = _batches(loader, arguments, shuffle=False, **given)
        with loaders.inside(arguments.loader, "CustomLoader"):
            first = next(iter(batches), None)
    if first is None:
        raise ValueError(
            f"CustomLoader of loader {arguments.loader!r} yields no batch; is there data in --data?"
        )
    if not isinstance(first, (tuple, list)) or len(first) != 2:
        raise ValueError(
            f"CustomLoader of loader {arguments.loader!r} yields {type(first).__name__}, not pairs (inputs, targets); "
            "LoaderWrapper in bridges/loaders/template.py shows how to make them"
        )
    return first[0], first[1]


def _evaluated_batch(loader: ModuleType, arguments: Namespace) -> tuple[Any, Any]:
    """The samples that the loss is taken over: as many as asked for, else what the loader finds enough."""
    size = arguments.batch_size or getattr(loader, "EVALUATION_BATCH", None)
    return _first_batch(loader, arguments, batch_size=size)


def _need(function: Any, argument: str, option: str, arguments: Namespace) -> None:
    """Raises unless a loader's function takes an argument that an option needs."""
    if not loaders.accepts(function, argument):
        raise ValueError(
            f"{option} can't be used with loader {arguments.loader!r}: its {function.__name__} has no {argument!r}"
        )


def _described(model: nn.Module) -> str:
    return f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters"


def _line(epoch: training.Epoch) -> str:
    """An epoch as one line for people."""
    parts = [f"epoch {epoch.epoch:3d}", f"loss {epoch.loss:.4f}"]
    for name, share in (("accuracy", epoch.accuracy), ("held out", epoch.held_out_accuracy)):
        parts += [] if share is None else [f"{name} {100 * share:.2f} %"]
    return "  ".join([*parts, f"{epoch.seconds:.1f} s"])
