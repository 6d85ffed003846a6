"""Kernels and workers as forks of one process that has imported what they need: imports take seconds, a fork does not.

Linux alone forks safely after such imports. Elsewhere, and in the processes of a scheduler that is not ours, each
process and each kernel starts by itself and imports for itself.
"""
from __future__ import annotations

import atexit
import ctypes
import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver

from jupyter_client import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

FORKS = sys.platform == "linux" and sys.version_info < (3, 14)  # whose server asks for a password
LEAVING = 10  # seconds that a fork has to end once it has answered
READY = "paperlib.runs.ready"  # the module that imports what they need
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
HELD = 2**28  # bytes that a process may hold without using them


def start(threads: int) -> bool:
    """Start the process that others are forked from. It imports while this one goes on. False: here, none are."""
    if FORKS:
        # Matplotlib reads the name of its backend once, when it is imported.
        with environment(MPLBACKEND="module://matplotlib_inline.backend_inline", **numbers(threads)), ignoring_ctrl_c():
            forkserver.set_forkserver_preload([READY])
            forkserver.ensure_running()
    return FORKS


def aside(work: Callable) -> object:
    """What `work()` gives, or raises, in a fork that ends with it: so this process need not import what it takes.

    `start` comes first. Raises RuntimeError where the fork dies.
    """
    sys.stdout.flush()
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("forkserver").Process(target=_answer, args=(there, work, dict(os.environ)))
    process.start()
    there.close()
    try:
        answer, error = here.recv()
    except EOFError:
        raise RuntimeError("A process died, as it does when memory runs out.") from None
    except BaseException:
        process.kill()  # Ctrl-C is not for it
        raise
    finally:
        process.join(LEAVING)
        process.kill()  # if it waits for a process of its own
        process.join()
    if error:
        raise error
    return answer


def _answer(pipe, work: Callable, environment: dict[str, str]) -> None:
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a process that is stopped would leave behind
    os.environ.update(environment)
    try:
        answer = work(), None
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the other process's
        answer = None, error
    sys.stdout.flush()
    with suppress(BrokenPipeError):  # after Ctrl-C nobody waits for it; what it computed is in the cache
        pipe.send(answer)
    atexit._run_exitfuncs()  # a fork ends without them, and joblib would warn of folders left behind


@dataclass(frozen=True)
class Packed:
    """A function in a form that a process can pass on without importing what the function takes."""

    pickled: bytes

    @classmethod
    def of(cls, function: Callable) -> Packed:
        return cls(pickle.dumps(function))

    def __call__(self, *arguments) -> object:
        return pickle.loads(self.pickled)(*arguments)


def hold() -> None:
    """Keep freed memory, in this process and its forks, until they `tidy`.

    By itself glibc gives large pieces back at once, and the system has to clear them anew for the next layer, which
    takes a fifth of a narrow network's time. Numbers as in glibc's malloc.h.
    """
    if FORKS and (option := getattr(ctypes.CDLL(None), "mallopt", None)):
        for name, value in (M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, HELD), (M_TOP_PAD, 2**24):
            option(name, value)


def tidy(collect: bool = True) -> None:
    """Give freed memory back to the system: glibc would keep it for as long as the process lives."""
    if collect:
        gc.collect()
    if FORKS and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


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


def forked() -> bool:
    """True in a process of our own that was forked itself; from here on, its forks come from where it came from."""
    if not FORKS or not multiprocessing.parent_process() or multiprocessing.current_process().daemon:
        return False
    forkserver._forkserver.ensure_running = lambda: None  # by itself it would start another, which is not ready
    return True


def manager() -> type[AsyncKernelManager]:
    """The class of a notebook's kernel manager."""
    return ForkedKernel if forked() else AsyncKernelManager


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
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()  # Ctrl-C in a terminal is not for it
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    app = IPKernelApp.instance()
    app.initialize([*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])  # or it tells how to end it
    app.shell.events.register("post_run_cell", lambda _: tidy(collect=False))
    app.start()


def _end_with(parent) -> None:
    parent.join()
    os._exit(1)
