"""The allocator under which the command line computes."""

import subprocess
import sys

import pytest

from jaxseg.cli.runtime import TUNABLES, _has_glibc

pytestmark = pytest.mark.skipif(not _has_glibc(), reason="the allocator is glibc's")

START = "import os, sys; from jaxseg.cli.runtime import keep_freed_memory; keep_freed_memory(); "

CHURN = """
import resource, threading
import numpy as np
def work():
    for _ in range(20):
        np.zeros(8_000_000, np.uint8).fill(1)
        np.empty(40_000_000, np.uint8).fill(1)
def turn():
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def python(code: str, *arguments: str, **variables: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout


def test_the_process_starts_anew_once_with_the_same_arguments():
    code = START + "print(os.environ['GLIBC_TUNABLES'], sys.argv[1:])"
    assert python(code, "train", "a b") == f"{TUNABLES} ['train', 'a b']\n"


def test_a_user_who_has_set_malloc_up_is_left_alone():
    code = START + "print(os.environ['GLIBC_TUNABLES'])"
    assert python(code, GLIBC_TUNABLES="glibc.malloc.arena_max=3") == "glibc.malloc.arena_max=3\n"


def test_other_tunables_stay():
    code = START + "print(os.environ['GLIBC_TUNABLES'])"
    assert python(code, GLIBC_TUNABLES="glibc.pthread.rseq=1") == f"glibc.pthread.rseq=1:{TUNABLES}\n"


def test_freed_buffers_of_another_thread_are_used_again():
    small_pages = {"NUMPY_MADVISE_HUGEPAGE": "0"}  # else NumPy asks for huge ones itself, and gets them or not
    assert int(python(START + "exec(sys.argv[1])", CHURN, **small_pages)) < 1_000
    assert int(python("import sys; exec(sys.argv[1])", CHURN, **small_pages)) > 10_000
