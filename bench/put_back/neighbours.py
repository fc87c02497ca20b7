"""Put back beside the loop: Python threads in its process, and a lock that others take too."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import RLock, Semaphore

import numpy as np

from put_back.hooks import Hooks


@contextmanager
def decoding_thread(hooks: Hooks) -> Iterator[None]:
    """A thread that decodes three cameras' pictures, 640x480 at 30 Hz, on the other cores."""
    import cv2

    cv2.setNumThreads(1)
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    picture = cv2.imencode(".jpg", cv2.resize(noise, (640, 480)))[1]

    def decode() -> None:
        for _ in range(3):
            image = cv2.resize(cv2.imdecode(picture, cv2.IMREAD_COLOR), (320, 240))
            np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / 255
        time.sleep(1 / 30)

    with _thread(hooks, decode):
        yield


@contextmanager
def python_thread(hooks: Hooks) -> Iterator[None]:
    """A thread that computes in Python without a pause, on the other cores."""
    with _thread(hooks, lambda: sum(i * i for i in range(1000))):
        yield


@contextmanager
def _thread(hooks: Hooks, work: Callable[[], object]) -> Iterator[None]:
    done = threading.Event()

    def run() -> None:
        os.sched_setaffinity(0, hooks.others)  # this thread's
        while not done.is_set():
            work()

    thread = threading.Thread(target=run)
    thread.start()  # SCHED_OTHER: control's scheduler is not inherited
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def shared_lock(hooks: Hooks) -> Iterator[None]:
    """State and chunk guarded by the one multiprocessing.RLock that also guards the frames.

    Two more processes hold it while they copy those: cameras, 691 kB in at 30 Hz, and inference,
    out at 10 Hz, which computes in between.
    """
    spawn = multiprocessing.get_context("spawn")
    lock, copying = spawn.RLock(), spawn.Semaphore(0)
    beside = [
        spawn.Process(target=_copy_frames, args=(lock, copying, hooks.others, between))
        for between in (_film, _infer)
    ]
    for process in beside:
        process.start()
        copying.acquire()
    hooks.before, hooks.after = lock.acquire, lock.release
    try:
        yield
    finally:
        for process in beside:
            process.kill()
            process.join()


def _copy_frames(
    lock: RLock, copying: Semaphore, cores: tuple[int, ...], between: Callable[[], object]
) -> None:
    os.sched_setaffinity(0, cores)
    frames = np.zeros((3, 3, 240, 320), np.uint8)
    shared = frames.copy()
    copying.release()
    while True:
        with lock:
            np.copyto(shared, frames)
        between()


def _film() -> None:
    time.sleep(1 / 30)


def _infer() -> None:
    end = time.monotonic() + 1 / 10
    while time.monotonic() < end:
        pass
