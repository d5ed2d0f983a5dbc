"""Checkpoints appear whole or not at all, and any placement reads them."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jaxseg.errors import BadInput, FailedRun
from jaxseg.train import checkpoint
from jaxseg.train import state as states
from jaxseg.train.checkpoint import Checkpoints
from jaxseg.train.optim import Adam
from jaxseg.train.placement import replicated, sharded, single
from tests.train.toys import Net, Toy, stage

NOTES = {"positions": [{"taken": 3}], "window": [{"loss": 0.1}]}


def state_of(model=None):
    first = next(Toy().train_batches(batch_size=4, seed=0))
    return states.create(jax.random.key(0), model or Net(), stage().task, Adam(0.1).build(9), first, ema=True)


def small(value=1.0):
    return {"params": {"kernel": np.full((3, 2), value, np.float32)}, "step": np.asarray(7, np.int32)}


def kept(folder):
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)


@pytest.mark.parametrize("place", [single, sharded, replicated])
def test_what_was_saved_under_any_placement_comes_back(tmp_path, place):
    state = state_of()
    placement = place()
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(5, placement.fetch(placement.put(state)), NOTES)
    checkpoints.close()
    saved = checkpoint.read(tmp_path)
    assert saved.step == 5
    assert {k: saved.notes[k] for k in NOTES} == NOTES
    assert_same(checkpoint.fit_into(jax.eval_shape(lambda: state), saved, what="x"), jax.device_get(state))
    assert_same(saved.variables, jax.device_get(states.variables(state)))


def test_variables_are_the_networks_own_where_no_average_was_kept(tmp_path):
    state = state_of().replace(ema=None)
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, jax.device_get(state), NOTES)
    checkpoints.close()
    assert_same(checkpoint.read(tmp_path).variables, jax.device_get(states.variables(state)))


def test_the_last_few_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3, 10):
        checkpoints.save(step, small(step), {})
    checkpoints.close()
    assert kept(tmp_path) == [3, 10]
    assert checkpoint.read(tmp_path).state["params"]["kernel"][0, 0] == 10
    assert checkpoint.read(tmp_path, 3).state["params"]["kernel"][0, 0] == 3


def test_half_written_directories_are_never_picked_up(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=5)
    for step in (1, 2, 3):
        checkpoints.save(step, small(step), {})
    checkpoints.close()
    (tmp_path / "3" / "notes" / "metadata").unlink()
    shutil.copytree(tmp_path / "2", tmp_path / "9.orbax-checkpoint-tmp")
    (tmp_path / "11").mkdir()
    (tmp_path / "mine").mkdir()
    assert checkpoint.latest_step(tmp_path) == 2
    assert checkpoint.read(tmp_path).step == 2
    with pytest.raises(BadInput, match="there is no checkpoint"):
        checkpoint.read(tmp_path, 3)
    again = Checkpoints(tmp_path, keep=5)
    assert again.latest() == 2
    again.save(3, small(30), {})
    again.close()
    assert checkpoint.read(tmp_path).state["params"]["kernel"][0, 0] == 30
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2", "3", "mine"]


def test_a_damaged_checkpoint_is_named(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(4, small(), {})
    checkpoints.close()
    for path in (tmp_path / "4" / "state").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:5])
    with pytest.raises(BadInput, match=r"4 cannot be read .*; remove that folder") as told:
        checkpoint.read(tmp_path)
    assert "\n" not in str(told.value)


KILLED = """
import sys, os, signal, threading
import numpy as np
from pathlib import Path
from jaxseg.train.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]), keep=2)
state = lambda step: {f"w{i}": np.full((64, 1024), step, np.float32) for i in range(40)}
checkpoints.save(1, state(1), {})
checkpoints.wait()
print("saved", flush=True)
for step in range(2, 1000):
    checkpoints.save(step, state(step), {})
"""


def test_a_process_killed_while_saving_leaves_whole_checkpoints_only(tmp_path):
    for pause in (0.0, 0.05, 0.13):
        folder = tmp_path / str(pause)
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "saved\n"
            time.sleep(pause)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate(timeout=30)
        saved = checkpoint.read(folder)
        assert all(np.all(array == saved.step) for array in saved.state.values())
        assert len(saved.state) == 40
        again = Checkpoints(folder, keep=1)
        again.save(5000, small(), {})
        again.close()
        assert [p.name for p in folder.iterdir()] == ["5000"]


def test_a_full_disk_is_told_in_one_line_and_costs_nothing(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=1)
    save_and_wait(checkpoints, 1, small(1))

    def full(*args, **kwargs):
        (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.ocp.CheckpointManager, "save", full)
        with pytest.raises(FailedRun, match=r"that of step 1 is intact; no space left on the device") as told:
            save_and_wait(checkpoints, 2, small(2))
    assert "\n" not in str(told.value)
    assert [p.name for p in tmp_path.iterdir()] == ["1"]
    assert checkpoint.read(tmp_path).state["params"]["kernel"][0, 0] == 1
    save_and_wait(checkpoints, 3, small(3))
    checkpoints.close()
    assert kept(tmp_path) == [3]


def save_and_wait(checkpoints, step, state):
    checkpoints.save(step, state, {})
    checkpoints.wait()


def test_a_really_full_disk(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        checkpoints = Checkpoints(place / "kept", keep=1)
        save_and_wait(checkpoints, 1, small())
        with pytest.raises(FailedRun, match=r"that of step 1 is intact; no space left on the device"):
            save_and_wait(checkpoints, 2, {"large": np.random.default_rng(0).random(10**6)})
        checkpoints.close()
        assert checkpoint.read(place / "kept").step == 1
        assert [p.name for p in (place / "kept").iterdir()] == ["1"]
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_another_models_checkpoint_is_refused_by_name_and_shape(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, jax.device_get(state_of()), NOTES)
    checkpoints.close()
    saved = checkpoint.read(tmp_path)
    with pytest.raises(
        BadInput, match=r"in HERE is of another model: .*first/kernel is float32\[3,3,3,4\], not"
    ) as told:
        checkpoint.fit_into(jax.eval_shape(lambda: state_of(Net(width=6))), saved, what="HERE")
    assert "\n" not in str(told.value)
    with pytest.raises(BadInput, match=r"norm/mean float32\[4\] has no place"):
        checkpoint.fit_into(jax.eval_shape(lambda: state_of(Net(norm=False))), saved, what="HERE")
    bare = checkpoint.Saved(1, {k: v for k, v in saved.state.items() if k != "opt_state"}, {})
    with pytest.raises(BadInput, match=r"opt_state/\S+ int32\[\] is missing.* and \d+ more"):
        checkpoint.fit_into(jax.eval_shape(state_of), bare, what="HERE")


def test_positions_pack_into_json():
    for position in ({"taken": 3}, b"\x00\xff", [1, None]):
        assert checkpoint.unpack(json.loads(json.dumps(checkpoint.pack(position)))) == position
    assert checkpoint.from_all_processes({"a": 1}) == [{"a": 1}]
