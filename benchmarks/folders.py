"""How long a folder takes to be indexed, and what memory an epoch over it takes.

Usage: python benchmarks/folders.py [--images N] [--side PIXELS] [--out docs/benchmarks/folders.md]

Writes a folder of N images and N masks of SIDE pixels (N = 10,000 is 20,000 files), with a table of classes and without
one (then every mask is read once, and the numbers found are kept in the cache), and measures in fresh processes: how
long each reader takes to see whether the folder is its own, the first and the second opening, and the largest resident
memory in each quarter of an epoch. A processor's seconds are what other work on the machine changes least.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

_OPEN = """
import json, sys, time
from jaxseg.data import sets
import tensorflow_datasets, jaxseg.data.folders.prepared
start, busy = time.perf_counter(), time.process_time()
records = sets.open_split("folder:" + sys.argv[1], "train")
found = {"seconds": time.perf_counter() - start, "busy": time.process_time() - busy, "images": len(records)}
print(json.dumps(found))
"""

_RECOGNISE = """
import json, sys, time
from pathlib import Path
from jaxseg.data.folders.scan import READERS
found = {}
for recognises, _ in READERS:
    start = time.process_time()
    mine = recognises(Path(sys.argv[1]))
    found[recognises.__module__.rpartition(".")[2]] = [time.process_time() - start, mine]
print(json.dumps(found))
"""

_EPOCH = """
import json, os, sys
from jaxseg.data import Data, Source

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20

source = Source("folder:" + sys.argv[1], "train")
data = Data(train=source, val=source)
batches = data.eval_batches(batch_size=16)
quarter = -(-len(batches) // 4)
seen = []
for number, batch in enumerate(batches):
    if number % quarter == 0:
        seen.append(0.0)
    seen[-1] = max(seen[-1], resident())
print(json.dumps(seen))
"""


def write_folder(root: Path, images: int, side: int, table: bool) -> None:
    """Write the folder; neighbours among the images are alike, so that it is quick."""
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    random = np.random.default_rng(0)
    base = random.integers(0, 256, (side // 8, side // 8, 3)).astype(np.uint8)
    picture = np.asarray(Image.fromarray(base).resize((side, side)))
    label = (np.indices((side, side)).sum(0) * 5 // (2 * side)).astype(np.uint8)
    for number in range(images):
        Image.fromarray(np.roll(picture, number, 1)).save(root / "images" / f"{number:06}.jpg", quality=85)
        Image.fromarray(np.roll(label, number, 1)).save(root / "masks" / f"{number:06}.png", compress_level=1)
    if table:
        rows = [f"class {number},{number}" for number in range(5)]
        (root / "classes.csv").write_text("\n".join(["name,id", *rows]))


def measure(code: str, root: Path, cache: Path) -> object:
    """Run the code in a fresh process and return what it prints."""
    environment = {**os.environ, "JAXSEG_CACHE": str(cache), "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code, str(root)], env=environment, check=True, capture_output=True)
    return json.loads(done.stdout)


@click.command()
@click.option("--images", default=10_000, show_default=True, help="Images; there are as many masks.")
@click.option("--side", default=128, show_default=True, help="Pixels.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the table there.")
def main(images: int, side: int, out: Path | None) -> None:
    """Measure and print a table."""
    lines = [
        f"`python benchmarks/folders.py --images {images} --side {side}`, {time.strftime('%Y-%m-%d')}, on "
        f"{os.cpu_count()} cores that others use too: {2 * images:,} files, {images:,} images and as many masks of "
        f"{side}x{side} pixels.",
        "",
        "Seconds are a processor's, in brackets those that passed, which other work on the machine stretches.",
        "",
        "| folder | first opening, s | next opening, s | memory over an epoch by quarters, MiB |",
        "|---|---|---|---|",
    ]
    for table in (True, False):
        with tempfile.TemporaryDirectory() as place:
            root, cache = Path(place) / "own", Path(place) / "cache"
            write_folder(root, images, side, table)
            first, again = (measure(_OPEN, root, cache) for _ in range(2))
            readers = measure(_RECOGNISE, root, cache)
            memory = measure(_EPOCH, root, cache)
        assert isinstance(readers, dict)
        assert isinstance(first, dict)
        assert isinstance(again, dict)
        assert isinstance(memory, list)
        quarters = ", ".join(f"{value:.0f}" for value in memory)
        what = "with a table of classes" if table else "without, so every mask is read once"
        took = [f"{found['busy']:.1f} ({found['seconds']:.1f})" for found in (first, again)]
        lines.append(f"| {what} | {took[0]} | {took[1]} | {quarters} |")
        print(lines[-1], flush=True)
    lines += ["", "Each of the readers looks whether the folder is its own (part of the openings above):", ""]
    lines += ["| reader | s | is it |", "|---|---|---|"]
    lines += [f"| {name} | {took:.2f} | {'yes' if mine else 'no'} |" for name, (took, mine) in readers.items()]
    text = "\n".join(lines) + "\n"
    if out is not None:
        out.write_text(text, encoding="utf-8")
    print(text)
    print(f"largest memory of a process: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
