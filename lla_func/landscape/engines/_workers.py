"""Workers: independent tasks on the cores of a CPU, each on one thread of its own.

torch splits every single operation over the cores and joins them after it. The tasks of a grid are independent, so it
is better to give each core tasks of its own: nothing waits in between, operations too small to be split still use all
cores, and each core keeps its own activations in its own cache. The tasks run recorded graphs, whose operations release
Python's global lock.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

import torch

from lla_func._torch import Switch

Task = Callable[[int], None]


def count(device: torch.device) -> int:
    """How many workers a device has use for: the threads torch may use on a CPU, one on an accelerator."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def run(tasks: Sequence[Task], workers: int) -> None:
    """Calls every task with the index of the worker that runs it, and returns when all are done.

    The calling thread is worker 0. Gradients are off in all tasks. After an error, or an interruption by the user, no
    further task starts; the first error is raised here. torch's number of threads is one meanwhile and then as before.

    Example:
        >>> done = []
        >>> run([lambda worker, i=i: done.append(i) for i in range(5)], workers=2)
        >>> sorted(done)
        [0, 1, 2, 3, 4]
    """
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    errors: list[BaseException] = []
    workers = min(workers, len(tasks))
    at_work = [threading.Lock() for _ in range(max(workers, 1))]

    def work(worker: int) -> None:
        try:
            with at_work[worker], torch.no_grad():
                while not errors:
                    waiting.get_nowait()(worker)
        except queue.Empty:
            pass
        except BaseException as error:
            errors.append(error)

    if workers <= 1:
        work(0)
    else:
        with _THREADS.at(1):
            _share(work, workers, at_work, errors)
    if errors:
        raise errors[0]


def _share(work: Task, workers: int, at_work: Sequence[threading.Lock], errors: list[BaseException]) -> None:
    """Has the work done by this thread and helpers, and returns when none of them is at it any more."""
    helpers = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(1, workers)]
    try:
        for helper in helpers:
            helper.start()
        work(0)
        for helper in helpers:
            helper.join()
    except BaseException as interruption:
        errors.append(interruption)
    finally:
        # Not join: it raises for a helper whose start was interrupted, and in Python up to 3.12 an interrupted join
        # takes a helper at work for ended. One that begins after this finds an error, or no task.
        for lock in at_work:
            with lock:
                pass


_THREADS = Switch(torch.get_num_threads, torch.set_num_threads, torch.set_num_threads)
