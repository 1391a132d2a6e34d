import platform
import subprocess
import sys

import pytest

FREED = """
import numpy as np
from kfeat.training import memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def make_and_free():
    for size in (50, 70, 90, 110):
        np.ones(size * 2**20, np.uint8)
        kept.append(np.ones(200_000, np.uint8))  # so that what is free is not at the end

kept, before = [], resident()
memory.keep_freed()
make_and_free()
held = resident() - before
memory.give_back()
given = resident() - before
make_and_free()
print(held // 2**20, given // 2**20, (resident() - before) // 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_what_a_training_has_freed_goes_back_to_the_system():
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True)
    held, given, later = map(int, done.stdout.split())
    assert held > 100 and max(given, later) < 20
