"""`lla train`: a network trained by Adam, with landscapes on the way."""

from __future__ import annotations

import itertools
import sys
from argparse import Namespace

import torch

from bridges import loaders, weights
from bridges.command import _training as training
from bridges.command._eval import asked_of, draw
from bridges.command._pipeline import batches_of, described, device_of, first_batch, metric_of, model_of
from bridges.command._processes import launched
from bridges.command._tracking import tracked
from lla_func.facades import check_request
from lla_func.files import file_name, writable_directory

TRAINING_BATCH = 64


def run(arguments: Namespace) -> None:
    """Trains a model, draws landscapes on the way, and saves the weights and a log."""
    if launched().size > 1:
        raise ValueError("lla train runs in one process; start it without torchrun")
    file_name("--name", arguments.name)
    device, loader = device_of(arguments), loaders.find(arguments.loader)
    folder = writable_directory("--log_dir", arguments.log_dir)
    model = model_of(loader, arguments, device)
    splits = loaders.accepts(loader.CustomLoader, "split")
    part = {"split": "train"} if splits else {}
    metric = metric_of(loader, arguments, *first_batch(loader, arguments, **part), device)
    batches = batches_of(
        loader,
        arguments,
        batch_size=arguments.batch_size or TRAINING_BATCH,
        shuffle=True,
        shift=arguments.shift or None,
        **part,
    )
    held_out = batches_of(loader, arguments, split="test") if splits else None
    optimizer = torch.optim.Adam(model.parameters(), lr=arguments.lr)
    last = arguments.epochs - 1
    if arguments.viz_rate:
        asked = asked_of(arguments, f"{arguments.name}_epoch_{last}", optimizer=optimizer)
        check_request(model, metric, device, **asked)
    if held_out is not None:
        training.score(model, metric, itertools.islice(held_out, 1))  # what is wrong with it comes up here
    print(f"{described(model)}, {device}")
    track = tracked(model, arguments)
    record = training.log(folder / f"{arguments.name}.jsonl")
    failures: list[Exception] = []

    def after_epoch(epoch: training.Epoch) -> None:
        record(epoch)
        print(_line(epoch), flush=True)
        weights.save(model, folder / f"{arguments.name}.pth")  # whatever happens now, the work is kept
        if arguments.viz_rate and (epoch.epoch == last or epoch.epoch % arguments.viz_rate == 0):
            asked = asked_of(arguments, f"{arguments.name}_epoch_{epoch.epoch}", optimizer=optimizer)
            try:
                draw(model, metric, device, asked, plan=arguments.plan)
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
        after_step=None if track is None else track.step,
    )
    if track is not None:
        print(track.ended())
    loss, _ = training.score(model, metric, batches_of(loader, arguments, **part))
    print(f"loss over the training data: {loss:.6g}")
    print(f"wrote {folder / arguments.name}.jsonl")
    print(f"wrote {folder / arguments.name}.pth")
    if failures:
        raise failures[0]


def _line(epoch: training.Epoch) -> str:
    """An epoch as one line for people."""
    parts = [f"epoch {epoch.epoch:3d}", f"loss {epoch.loss:.4f}"]
    for name, share in (("accuracy", epoch.accuracy), ("held out", epoch.held_out_accuracy)):
        parts += [] if share is None else [f"{name} {100 * share:.2f} %"]
    return "  ".join([*parts, f"{epoch.seconds:.1f} s"])
