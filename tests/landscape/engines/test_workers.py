"""Workers run every task once, and leave none at work behind: not after an error, nor after Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import torch

from lla_func.landscape.engines import _workers as workers


def test_workers_share_all_tasks_and_leave_the_number_of_threads():
    before = torch.get_num_threads()
    seen: list[tuple[int, int, bool]] = []
    lock = threading.Lock()

    def task(i, worker):
        with lock:
            seen.append((i, torch.get_num_threads(), torch.is_grad_enabled()))

    workers.run([lambda w, i=i: task(i, w) for i in range(20)], 3)
    assert sorted(i for i, _, _ in seen) == list(range(20))
    assert {(threads, grad) for _, threads, grad in seen} == {(1, False)}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_a_task_stops_all_workers(error):
    before = torch.get_num_threads()
    calls: list[int] = []

    def fail(worker):
        raise error("stop")

    with pytest.raises(error, match="stop"):
        workers.run([fail, *[calls.append] * 1000], 2)
    assert len(calls) < 1000
    assert torch.get_num_threads() == before


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_an_interruption_waits_for_the_task_in_work():
    begun, finished = threading.Event(), []

    def task(worker):
        if worker == 0:
            assert begun.wait(10)
        else:
            begun.set()
            time.sleep(0.2)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.4)
            finished.append(worker)

    with pytest.raises(KeyboardInterrupt):
        workers.run([task, task], 2)
    assert finished == [1]


@pytest.mark.parametrize("begun", [False, True])
def test_an_interruption_while_a_worker_starts_is_raised(monkeypatch, begun):
    start = threading.Thread.start

    def interrupted(thread):
        if begun:
            start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        workers.run([lambda worker: None] * 3, 2)
    assert torch.get_num_threads() == before
