"""Files say what they hold, hold one idea, and know nothing of the machine that they were written on."""

import re

from tests.laws.tree import ROOT, modules, name_of, tracked

VAGUE = {"util", "utils", "helper", "helpers", "common", "misc", "tools", "stuff", "base_utils"}
LONGEST = 450
MACHINE = re.compile(r"(?<![\w.~$}])/(?:home|root|Users|work|tmp|mnt|opt)/[\w.-]+")
SAVED = "tests/fixtures/saved/"
"""What jaxseg itself saved once, byte for byte."""
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".cff", ".json", ".txt", ".cfg", ".sh", ".rst", ""}


def test_names_say_what_is_inside():
    parts = {path: {part.lower() for part in path.relative_to(ROOT).with_suffix("").parts} for path in tracked()}
    vague = [name_of(path) for path, names in parts.items() if names & VAGUE]
    assert not vague, f"name the thing that the file holds: {vague}"


def test_a_file_holds_one_idea():
    code = modules("jaxseg", "tests", "docs", "experiments", "benchmarks")
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in code}
    long = {name: count for name, count in lines.items() if count > LONGEST}
    assert lines, "no file found: the law would hold of nothing"
    assert not long, f"over {LONGEST} lines it is two ideas: {long}"


def test_no_machine_paths():
    faults = []
    for path in tracked():
        if path.suffix in TEXT and not name_of(path).startswith(SAVED):
            found = MACHINE.findall(path.read_text(encoding="utf-8"))
            faults += [f"{name_of(path)} speaks of {place}" for place in found]
    assert not faults, "\n".join(faults)


def test_data_and_weights_stay_outside():
    heavy = {".npz", ".npy", ".pt", ".pth", ".h5", ".safetensors", ".msgpack", ".tif", ".caffemodel", ".zip", ".gz"}
    outside = [path for path in tracked() if not name_of(path).startswith(SAVED)]
    assert not [name_of(path) for path in outside if path.suffix in heavy]
    large = {name_of(path): path.stat().st_size for path in tracked() if path.stat().st_size > 2**20}
    assert not large, f"over one MiB: {large}"


def test_what_is_kept_to_be_loaded_for_good_is_small_and_names_no_machine():
    kept = [path.read_bytes() for path in tracked() if name_of(path).startswith(SAVED)]
    assert 5 <= len(kept) <= 20
    assert sum(map(len, kept)) < 60_000
    assert not [
        MACHINE.search(content.decode("latin-1")) for content in kept if MACHINE.search(content.decode("latin-1"))
    ]
