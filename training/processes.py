"""Several processes of one training, as `torchrun` starts them, and the device each computes on.

In: names and the environment of torchrun. Out: devices, and ways for the processes to wait for and agree with one
another; all of them do nothing where there is one process. It knows no model and no data.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from statistics import median
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from chatbot.runtime import choose_device

T = TypeVar("T")
_PROBES = 9
_PAYS_BELOW = 0.9  # of the time in full precision: less gain is not worth the precision
_PATIENCE = timedelta(hours=12)  # the others wait while the first one reads and tokenises all the data


def rank() -> int:
    """The number of this process, 0 for the first or only one."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes have joined."""
    return dist.get_world_size() if dist.is_initialized() else 1


def pick_device(name: str) -> torch.device:
    """`chatbot.runtime.choose_device`, and of several GPUs the one that torchrun gave to this process."""
    device = choose_device(name)
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Meet the other processes that torchrun started, and part from them at the end."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def first_goes_first() -> Iterator[None]:
    """Let the first process do what is inside before the others do, so that they find the files it wrote."""
    if world() > 1 and rank() > 0:
        dist.barrier()
    try:
        yield
    finally:
        if world() > 1 and rank() == 0:
            dist.barrier()


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take gradients that have faded through many steps for zero: as denormals they make steps three times slower.

    To be entered before the first tensor, as threads take it over from the one that starts them. It is left again: the
    setting is the whole process's, and other arithmetic in it may want its smallest numbers.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def agreed(value: T) -> T:
    """The first process's `value`, in all of them: what is measured may differ, what follows from it must not."""
    box = [value]
    if world() > 1:
        dist.broadcast_object_list(box, src=0)
    return box[0]


def bf16_pays(device: torch.device) -> bool:
    """Whether autocast to bfloat16 is faster here: known on CUDA, timed on a small LSTM on a CPU.

    Timed on one thread, by its own clock, in turns, after a warm-up: what others do on the machine meanwhile hits both
    alike. With several threads their waiting for one another, which is work to the clock, would decide it.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu":
        return False
    lstm, x = nn.LSTM(256, 256, batch_first=True), torch.zeros(64, 8, 256)

    def seconds(enabled: bool) -> float:
        begin = time.thread_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            lstm(x)[0].sum().backward()
        return time.thread_time() - begin

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds(True), seconds(False)  # the first call of each also chooses its kernels
        turns = [(seconds(True), seconds(False)) for _ in range(_PROBES)]
    finally:
        torch.set_num_threads(threads)
    return median(narrow / max(wide, 1e-9) for narrow, wide in turns) < _PAYS_BELOW
