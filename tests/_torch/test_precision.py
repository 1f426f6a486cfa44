"""TensorFloat-32 is off inside (or on, for previews), and everything is as before outside, whichever names set it."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from lla_func._torch._precision import full_precision

MATMUL, CUDNN = torch.backends.cuda.matmul, torch.backends.cudnn
NEW = hasattr(MATMUL, "fp32_precision")


def state():
    """All names of the settings with their values; None for those that the other names have locked."""
    names = [(MATMUL, "allow_tf32"), (CUDNN, "allow_tf32")]
    if NEW:
        names += [(part, "fp32_precision") for part in (MATMUL, CUDNN.conv, CUDNN.rnn)]
    found = []
    for part, name in names:
        try:
            found.append(getattr(part, name))
        except RuntimeError:
            found.append(None)
    return found


@contextmanager
def setting(part, name, value):
    before = getattr(part, name)
    setattr(part, name, value)
    try:
        yield
    finally:
        setattr(part, name, before)


@pytest.mark.parametrize("value", [True, False])
def test_it_is_full_inside_and_as_before_outside(value):
    before = state()
    with setting(MATMUL, "allow_tf32", value):
        during = state()
        with full_precision():
            assert not MATMUL.allow_tf32
            assert not CUDNN.allow_tf32
            with CUDNN.flags(enabled=False):  # what models do around RNNs
                pass
        assert state() == during
        with full_precision(enabled=False):
            assert MATMUL.allow_tf32
            assert CUDNN.allow_tf32
        assert state() == during
        with pytest.raises(KeyboardInterrupt), full_precision():
            raise KeyboardInterrupt
        assert state() == during
    assert state()[:2] == before[:2]


@pytest.mark.skipif(not NEW, reason="torch before 2.9 has one set of names")
def test_it_works_after_the_caller_has_used_the_new_names():
    before = state()
    with setting(MATMUL, "fp32_precision", "tf32"):
        during = state()
        with full_precision():
            assert [MATMUL.fp32_precision, CUDNN.conv.fp32_precision, CUDNN.rnn.fp32_precision] == [
                "ieee"
            ] * 3
        assert state() == during
    assert state() == before
