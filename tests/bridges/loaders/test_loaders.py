"""Loaders and weights files: what they give, and how they refuse."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bridges import loaders, weights
from bridges.loaders import digits, lenet, mlp, template
from tests.command import run

ORIGINAL = Path(__file__).parents[2] / "loader_of_the_original.py"


class Payload:
    """An object whose pickle would run a command."""

    def __reduce__(self):
        return (print, ("code from a weights file has run",))


# ---- data ----------------------------------------------------------------------------------------------------------


def test_the_split_is_disjoint_complete_and_stratified():
    with np.load(digits.DATA / "digits.npz") as file:
        labels, held_out = file["labels"], file["held_out"]
    train, test, everything = (digits.bundled(split) for split in ("train", "test", "all"))
    assert (len(train[1]), len(test[1]), len(everything[1])) == (1437, 360, 1797)
    assert torch.equal(torch.cat([train[0], test[0]]), everything[0])
    assert torch.equal(torch.cat([train[1], test[1]]), everything[1])
    share = np.bincount(labels[held_out]) / np.bincount(labels)
    assert np.all(np.abs(share - 360 / 1797) < 0.005)


def test_no_image_is_both_trained_on_and_held_out():
    seen = {image.numpy().tobytes() for image in digits.bundled("train")[0]}
    assert not any(image.numpy().tobytes() in seen for image in digits.bundled("test")[0])


def test_images_are_28_by_28_in_the_unit_interval_and_use_all_of_it():
    images, labels = digits.bundled()
    assert images.shape == (1797, 1, 28, 28)
    assert images.dtype == torch.float32
    assert images.min() == 0
    assert images.max() == 1
    assert labels.dtype == torch.int64
    assert sorted(labels.unique().tolist()) == list(range(10))


def test_the_default_batch_is_the_whole_bundled_set_in_the_same_order_every_time():
    first, second = (list(digits.CustomLoader()) for _ in range(2))
    assert len(first) == 1
    assert torch.equal(first[0][0], digits.bundled()[0])
    assert torch.equal(first[0][0], second[0][0])


def test_loading_digits_needs_no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    assert len(next(iter(lenet.CustomLoader()))[0]) == 1797


def test_wrapped_batches_are_the_same_batches():
    plain, wrapped = digits.CustomLoader(batch_size=600), digits.CustomLoader(batch_size=600, wrap=True)
    for _ in range(2):  # a wrapper starts anew in every pass
        assert all(torch.equal(a[1], b[1]) for a, b in zip(plain, wrapped, strict=True))


def test_a_shifted_image_is_the_image_at_another_place():
    images, labels = digits.bundled("test")
    shifted = digits.Shifted(images, labels, 2)
    padded = nn.functional.pad(images[0], [2] * 4)
    places = {padded[:, a : a + 28, b : b + 28].numpy().tobytes() for a in range(5) for b in range(5)}
    looks = {shifted[0][0].numpy().tobytes() for _ in range(40)}
    assert looks <= places
    assert len(looks) > 5


def test_mnist_reads_what_torchvision_stores(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.arange(2 * 784, dtype=np.uint8).reshape(2, 28, 28)
    head = [np.array(shape, dtype=">i4").tobytes() for shape in ([2051, 2, 28, 28], [2049, 2])]
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head[0] + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(head[1] + bytes([3, 7]))
    found, labels = digits.mnist(str(tmp_path))
    assert torch.equal(found, torch.from_numpy(images).unsqueeze(1).float() / 255)
    assert labels.tolist() == [3, 7]


def test_a_folder_without_mnist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not hold MNIST .*--data mnist to download"):
        lenet.CustomLoader(data_path=str(tmp_path / "nothing"))


def test_a_failed_download_says_what_to_do_without_internet(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr("torchvision.datasets.MNIST", fail)
    with pytest.raises(ConnectionError, match="could not be downloaded .*ubyte.* leave --data out"):
        lenet.CustomLoader(data_path="mnist")


# ---- models --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loader", "least"), [(lenet, 0.98), (mlp, 0.96)])
def test_bundled_weights_classify_held_out_digits(loader, least):
    images, labels = digits.bundled("test")
    with torch.no_grad():
        right = loader.ModelInit().eval()(images).argmax(1) == labels
    assert right.float().mean() >= least


@pytest.mark.parametrize("name", ["lenet_digits.pth", "mlp_digits.pth"])
def test_bundled_weights_are_small_and_hold_tensors_only(name):
    path = digits.DATA / name
    assert path.stat().st_size < 300_000
    assert all(isinstance(tensor, torch.Tensor) for tensor in torch.load(path, weights_only=True).values())


@pytest.mark.parametrize(("loader", "count"), [(lenet, 61_706), (mlp, 25_450)])
def test_networks_have_the_size_of_the_literature(loader, count):
    assert sum(p.numel() for p in loader.ModelInit(weight_path=None).parameters()) == count


def test_weights_come_back_bit_for_bit_as_they_were_saved(tmp_path):
    model, other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    model(torch.randn(5, 3))
    weights.load(other, weights.save(model, tmp_path / "new folder" / "weights.pth"))
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = weights.save(nn.Linear(2, 2), tmp_path / "weights.pth")
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        weights.save(nn.Linear(2, 2), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["weights.pth"]


def test_code_in_a_weights_file_is_refused_and_does_not_run(tmp_path, capsys):
    torch.save({"weight": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="evil.pth.* Python objects besides tensors.*refused"):
        weights.load(nn.Linear(1, 1), tmp_path / "evil.pth")
    assert "has run" not in capsys.readouterr().out


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "cut.pth").write_bytes((digits.DATA / "mlp_digits.pth").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cut\.pth' is damaged or not a weights file; .*torch\.save"):
        mlp.ModelInit(weight_path=tmp_path / "cut.pth")


def test_a_text_file_is_no_weights_file(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"notes\.txt' is damaged or not a weights file"):
        mlp.ModelInit(weight_path=tmp_path / "notes.txt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights file .*gone\.pth"):
        mlp.ModelInit(weight_path=tmp_path / "gone.pth")


def test_a_checkpoint_instead_of_weights_says_what_it_holds(tmp_path):
    torch.save({"epoch": 3, "state_dict": nn.Linear(1, 1).state_dict()}, tmp_path / "checkpoint.pth")
    with pytest.raises(ValueError, match="'epoch', 'state_dict' instead of named tensors"):
        mlp.ModelInit(weight_path=tmp_path / "checkpoint.pth")


def test_weights_of_another_model_name_the_first_key_that_it_lacks():
    with pytest.raises(ValueError, match=r"lenet_digits\.pth.*not for this MLP: it lacks 'hidden\.weight'"):
        mlp.ModelInit(weight_path=lenet.WEIGHTS)


def test_weights_of_another_size_name_the_key_and_both_shapes():
    with pytest.raises(
        ValueError, match=r"'classifier\.4\.weight' has shape \[10, 84\], in the model \[7, 84\]"
    ):
        lenet.ModelInit(7)


def original_lenet():
    """The layers of the original's LeNet under its names; its forward pass is that of ours."""
    layers = {"conv1": nn.Conv2d(1, 6, 5, padding=2), "conv2": nn.Conv2d(6, 16, 5)}
    layers |= {"fc1": nn.Linear(400, 120), "fc2": nn.Linear(120, 84), "fc3": nn.Linear(84, 10)}
    return nn.ModuleDict(layers)


def test_weights_of_the_originals_lenet_give_the_same_network(tmp_path):
    net, images = original_lenet(), digits.bundled("test")[0][:5]
    torch.save(net.state_dict(), tmp_path / "lenet_example.pth")
    model = lenet.ModelInit(weight_path=tmp_path / "lenet_example.pth")
    x = images
    for conv in (net["conv1"], net["conv2"]):
        x = nn.functional.max_pool2d(conv(x).relu(), 2)
    expected = net["fc3"](net["fc2"](net["fc1"](x.flatten(1)).relu()).relu())
    torch.testing.assert_close(model(images), expected)


def test_weights_of_the_original_that_do_not_fit_are_refused_by_name(tmp_path):
    state = original_lenet().state_dict()
    torch.save({**state, "fc3.weight": torch.zeros(7, 84)}, tmp_path / "seven.pth")
    with pytest.raises(ValueError, match=r"'classifier\.4\.weight' has shape \[7, 84\]"):
        lenet.ModelInit(weight_path=tmp_path / "seven.pth")
    torch.save({**state, "fc4.weight": torch.zeros(7, 84)}, tmp_path / "more.pth")
    with pytest.raises(ValueError, match=r"has no 'fc4\.weight'"):
        lenet.ModelInit(weight_path=tmp_path / "more.pth")


def test_weights_with_a_key_too_many_name_it(tmp_path):
    torch.save({**nn.Linear(1, 1).state_dict(), "extra": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(ValueError, match=r"more\.pth.*Linear, which has no 'extra'"):
        weights.load(nn.Linear(1, 1), tmp_path / "more.pth")


# ---- the protocol --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lenet", "mlp", "template", str(ORIGINAL)])
def test_a_loader_gives_a_loss_that_training_can_use_and_the_same_to_landscapes(name):
    loader = loaders.find(name)
    model = loader.ModelInit(weight_path=None, device="cpu")
    batch = next(iter(loader.CustomLoader(batch_size=8, shuffle=False)))
    metric = loader.CustomLoss(*batch, "cpu")
    loss, predictions = metric(None, model=model, batch=batch, use_wrapper=False, return_pred=True)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert len(predictions) == 8
    objective = metric.objective(model)
    at_theta = objective.loss(objective.theta, next(iter(objective.batches)))
    assert float(at_theta) == pytest.approx(loss.item(), rel=1e-6)


def test_the_template_learns_its_task():
    from bridges.command import _training as training

    model, batches = template.ModelInit(), template.CustomLoader(batch_size=50, shuffle=True)
    history = training.train(model, template.CustomLoss(*next(iter(batches))), batches, epochs=10)
    assert history[-1].accuracy > 0.85


def test_a_loader_may_import_the_files_beside_it(tmp_path):
    (tmp_path / "my_network.py").write_text("from bridges.loaders.mlp import *\n")
    (tmp_path / "mine.py").write_text("from my_network import *\n")
    assert isinstance(loaders.find(str(tmp_path / "mine.py")).ModelInit(), mlp.MLP)


@pytest.mark.parametrize("missing", ["ModelInit", "CustomLoader", "CustomLoss"])
def test_a_file_that_is_no_loader_names_the_missing_element(tmp_path, missing):
    (tmp_path / "half.py").write_text(f"from bridges.loaders.mlp import *\ndel {missing}\n")
    with pytest.raises(ValueError, match=f"half.py' has no {missing}; .*template.py"):
        loaders.find(str(tmp_path / "half.py"))


def test_an_argument_that_the_protocol_needs_is_named(tmp_path):
    (tmp_path / "odd.py").write_text("from bridges.loaders.mlp import *\ndef ModelInit(weight_path): pass\n")
    with pytest.raises(ValueError, match=r"ModelInit of loader .*odd\.py' takes no argument 'device'"):
        loaders.find(str(tmp_path / "odd.py"))


@pytest.mark.parametrize(
    ("text", "words"), [("1 +", "SyntaxError"), ("import nowhere", "ModuleNotFoundError.*nowhere")]
)
def test_a_file_that_fails_says_how(tmp_path, text, words):
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(ValueError, match=rf"broken\.py' fails with {words}"):
        loaders.find(str(tmp_path / "broken.py"))


def test_a_misspelled_name_suggests_the_right_one():
    with pytest.raises(ValueError, match="loader='lennet' is not one of .*did you mean 'lenet'"):
        loaders.find("lennet")


def test_a_missing_loader_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"no loader file 'gone\.py'"):
        loaders.find("gone.py")


# ---- ResNet --------------------------------------------------------------------------------------------------------


def test_resnet_reads_folders_of_images(tmp_path):
    from PIL import Image

    from bridges.loaders import resnet

    for index, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (300, 260), (100 * index, 50, 0)).save(tmp_path / name / "one.png")
    images, labels = next(iter(resnet.CustomLoader(str(tmp_path))))
    assert images.shape == (2, 3, 224, 224)
    assert labels.tolist() == [0, 1]
    model = resnet.ModelInit(2, weight_path=None).eval()
    loss, predictions = resnet.CustomLoss(images, labels)(
        None, model=model, use_wrapper=False, return_pred=True
    )
    assert predictions.shape == (2, 2)
    assert torch.isfinite(loss)


def test_resnet_without_data_says_what_it_needs():
    with pytest.raises(ValueError, match="loader 'resnet' needs data.*--data"):
        loaders.find("resnet").CustomLoader()


def test_resnet_without_internet_says_what_to_do(monkeypatch):
    from torchvision.models import ResNet18_Weights

    def fail(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", fail)
    with pytest.raises(ConnectionError, match="IMAGENET1K_V1.*not be downloaded.*--weights None"):
        loaders.find("resnet").ModelInit()


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--loader", "resnet", "--data", "folder"], "loader 'resnet' needs torchvision"),
        (["--data", "mnist"], "MNIST is read by torchvision"),
    ],
)
def test_without_torchvision_one_line_says_what_to_install(arguments, advice, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.delitem(sys.modules, "bridges.loaders.resnet", raising=False)
    assert run("eval", *arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert advice in line
    assert "pip install torchvision" in line
