"""Fair timing of several implementations of the same thing: interleaved in one process, medians, one table.

A row has a callable per column ("jax", "torch", ...). Every callable is called once to warm up (that call is its
compile time), then all columns take turns, so that a slow phase of the machine hits all of them alike.
"""

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SETTLE_S = 0.03
"""Longer than the threads of OpenMP's pool keep a core busy after their work."""

LONG_S = 0.25
"""A call of this length need not find its data in the caches."""


@dataclass
class Result:
    """What one row measured: milliseconds per call and seconds of the first call, by column."""

    name: str
    median_ms: dict[str, float]
    first_s: dict[str, float]
    note: str = ""
    extra: dict[str, float] = field(default_factory=dict)
    reference: str = ""

    @property
    def ratio(self) -> float:
        """First column over the best of the others whose name starts with ``reference``: below 1, the first is faster.

        NaN when there is no other.
        """
        first, *others = self.median_ms.items()
        others = [ms for name, ms in others if name.startswith(self.reference)]
        return first[1] / min(others) if others else math.nan


def compare(
    name: str,
    columns: Mapping[str, Callable[[], object]],
    *,
    repeats: int = 15,
    budget_s: float = 6.0,
    note: str = "",
    reference: str = "",
    clock: Callable[[], float] = time.perf_counter,
) -> Result:
    """Time the columns of one row in turns.

    Args:
      name: of the row.
      columns: callables that return only when the work is done (``jax.block_until_ready`` inside), the subject first.
      repeats: turns at most; at least three are taken.
      budget_s: stop after so many seconds of turns.
      note: carried into the table.
      reference: what the names of the columns begin with that the ratio is against; any other column by default.
      clock: what tells the time. ``time.process_time`` counts the processor's work, which a busy machine blurs less;
        it is fair only between columns that run on one core.

    Returns:
      Medians in milliseconds, and the seconds of each column's first call (compilation included).
    """
    first = {}
    for column, call in columns.items():
        begin = time.perf_counter()
        call()
        first[column] = time.perf_counter() - begin
    times: dict[str, list[float]] = {column: [] for column in columns}
    begin = time.perf_counter()
    for turn in range(max(repeats, 3)):
        for column, call in columns.items():
            # The other column's threads spin for a while before they sleep, and its data fills the caches: let them
            # settle, then run once unmeasured.
            time.sleep(SETTLE_S)
            if not times[column] or times[column][-1] < LONG_S:
                call()
            start = clock()
            call()
            times[column].append(clock() - start)
        if turn >= 2 and time.perf_counter() - begin > budget_s:
            break
    return Result(name, {c: statistics.median(t) * 1e3 for c, t in times.items()}, first, note, reference=reference)


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a markdown table, numbers to the right.

    >>> print(as_table([{"system": "a", "AP": 2.0}, {"system": "b", "AP": None}]))
    | system | AP |
    |---|--:|
    | a | 2.0 |
    | b |  |
    <BLANKLINE>
    """
    head = list(rows[0])
    marks = ["---" if any(isinstance(row[key], str) for row in rows) else "--:" for key in head]
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(marks)}|"]
    lines += [f"| {' | '.join(_text(row[key]) for key in head)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.2f}" if value < 1 else f"{value:.1f}"
    return str(value)


def table(results: Sequence[Result], *, title: str = "", remarks: Sequence[str] = ()) -> str:
    """The results as a markdown table, and a line for each remark below it."""
    columns = list(dict.fromkeys(c for r in results for c in r.median_ms))
    extras = list(dict.fromkeys(e for r in results for e in r.extra))
    head = ["", *(f"{c} ms" for c in columns), "ratio", *extras, "first call s", "note"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for r in results:
        cells = [r.name, *(_number(r.median_ms.get(c, math.nan)) for c in columns), _number(r.ratio)]
        cells += [_number(r.extra.get(e, math.nan)) for e in extras]
        cells += [_number(next(iter(r.first_s.values()))), r.note]
        lines.append(f"| {' | '.join(cells)} |")
    below = "".join(f"\n{remark}\n" for remark in remarks)
    return (f"{title}\n\n" if title else "") + "\n".join(lines) + "\n" + below


def write(
    results: Sequence[Result],
    path: Path,
    *,
    title: str = "",
    about: Mapping[str, object] | None = None,
    remarks: Sequence[str] = (),
) -> None:
    """Write the results as JSON (``.json``) or as a markdown table (anything else)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        rows = [{**asdict(r), "ratio": r.ratio} for r in results]
        page = {"title": title, "about": dict(about or {}), "rows": rows, "remarks": list(remarks)}
        path.write_text(json.dumps(page, indent=1) + "\n")
    else:
        about = about or {}
        versions = [f"{name} {about[name]}" for name in ("jax", "flax", "torch") if name in about]
        path.write_text(table(results, title=", ".join([title, *versions]), remarks=remarks))


class Worker:
    """A process of its own that runs one thing as often as it is told, so that neither its memory nor its threads mix
    with another's: what one framework frees would leave holes in the other's heap, which then grows at odd moments.

    The process calls :func:`serve`.
    """

    def __init__(self, arguments: Iterable[str], environment: Mapping[str, str] | None = None) -> None:
        """Start this Python with ``arguments`` and more of an environment; :meth:`wait` before the first run."""
        pipe, variables = subprocess.PIPE, {**os.environ, **(environment or {})}
        command = [sys.executable, *arguments]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=variables)

    def wait(self) -> None:
        """Return when the process is ready.

        Raises:
          RuntimeError: it ended before.
        """
        self._line()

    def __call__(self) -> None:
        """One run; returns when it is done."""
        self._ask("run")

    def peak_mb(self) -> float:
        """The most memory that the process has held so far, in megabytes."""
        return float(self._ask("peak"))

    def close(self) -> None:
        """End the process, if it still runs."""
        if self._process.poll() is None:
            self._process.communicate()

    def _ask(self, what: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the measuring process ended with status {self._process.wait()}")
        return line.strip()


def serve(call: Callable[[], object]) -> None:
    """The other side of a :class:`Worker`: runs ``call`` whenever asked, until the questions end."""
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "peak":
            print(peak_memory_mb(), flush=True)
        else:
            call()
            print("done", flush=True)


def peak_memory_mb() -> float:
    """The most memory that this process has held so far, in megabytes.

    Linux says it of the present program; ``getrusage`` there begins with what the parent held when it started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def machine() -> dict[str, object]:
    """What the figures were taken on: processor, cores, versions of the frameworks that are loaded."""
    import platform

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    model = platform.processor() or platform.machine()
    try:
        names = [
            line.split(":", 1)[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
        ]
        model = names[0].strip() if names else model
    except OSError:
        pass
    versions = {m: getattr(sys.modules[m], "__version__", "?") for m in ("jax", "flax", "torch") if m in sys.modules}
    return {"processor": model, "cores": cores, "python": platform.python_version(), **versions}


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
