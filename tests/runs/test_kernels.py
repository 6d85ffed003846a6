"""What forks do with memory: they hold what they free until they tidy."""
import platform
import subprocess
import sys

import pytest

HELD = """
import numpy, psutil
from paperlib.runs import kernels

def megabytes():
    return psutil.Process().memory_info().rss / 2**20

kernels.hold()
before = megabytes()
x = numpy.ones(2**23)  # 64 MB
del x
held = megabytes() - before
kernels.tidy()
print(held > 60, megabytes() - before < 10)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told how to keep memory")
def test_freed_memory_is_held_until_it_is_tidied():
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True)
    assert done.stdout == "True True\n", done.stdout + done.stderr
