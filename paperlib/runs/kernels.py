"""Kernels and workers as forks of one process that has imported what they need: imports take seconds, a fork does not.

Linux alone forks safely after such imports. Elsewhere, and in the processes of a scheduler that is not ours, each
process and each kernel starts by itself and imports for itself.
"""
from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver

from jupyter_client import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

FORKS = sys.platform == "linux" and sys.version_info < (3, 14)  # whose server asks for a password
READY = "paperlib.runs.ready"  # the module that imports what they need


def start(threads: int) -> None:
    """Start the process that others are forked from, where they are. It imports while this one goes on."""
    if FORKS:
        # Matplotlib reads the name of its backend once, when it is imported.
        with environment(MPLBACKEND="module://matplotlib_inline.backend_inline", **numbers(threads)), ignoring_ctrl_c():
            forkserver.set_forkserver_preload([READY])
            forkserver.ensure_running()


def numbers(threads: int) -> dict[str, str]:
    """The environment variables that give a process its number of threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Environment variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def ignoring_ctrl_c() -> Iterator[None]:
    """SIGINT is ignored meanwhile, and by the processes that start meanwhile for all their life."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def manager() -> type[AsyncKernelManager]:
    """The class of a notebook's kernel manager: of forked kernels in a process of our own that was forked itself."""
    if not FORKS or not multiprocessing.parent_process() or multiprocessing.current_process().daemon:
        return AsyncKernelManager
    # Forks come from the process that this one was forked from: by itself it would start another, which is not ready.
    forkserver._forkserver.ensure_running = lambda: None
    return ForkedKernel


class ForkedKernel(AsyncKernelManager):
    """A kernel that is forked instead of started as a command."""

    def __init__(self, **options):
        super().__init__(**options)
        self.kernel_id = str(uuid.uuid4())
        self.provisioner = Forked(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)


class Forked(LocalProvisioner):
    """Forks where `LocalProvisioner` starts a command; the rest is the same."""

    async def launch_kernel(self, cmd, **options):
        process = multiprocessing.get_context("forkserver").Process(
            target=_serve, args=(cmd[cmd.index("-f"):], options["env"], options.get("cwd") or os.getcwd()))
        process.start()
        self.process, self.pid = _Handle(process), process.pid
        return self.connection_info


class _Handle:
    """A process of multiprocessing with the methods of subprocess.Popen that `LocalProvisioner` calls."""

    stdin = stdout = stderr = None

    def __init__(self, process: multiprocessing.Process):
        self.process = process

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int:
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


def _serve(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """What a forked process does: it is a kernel, until it is told to end or the process that asked for it ends."""
    from ipykernel.kernelapp import launch_new_instance

    os.setsid()  # Ctrl-C in a terminal is not for it
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    launch_new_instance(argv=[*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])  # or it tells how to end it


def _end_with(parent) -> None:
    parent.join()
    os._exit(1)
