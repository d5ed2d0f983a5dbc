"""A network, a task and a data set that are small enough to train whole runs in seconds."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.layers.conv import Conv
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.norm import BatchNorm
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD, Poly
from jaxseg.types import Figure

CLASSES = 3


@dataclass(frozen=True)
class FoldedRows:
    """A metric that counts rows and is folded by process 0 alone."""

    def init(self) -> int:
        return 0

    def observe(self, predictions: Any, batch: Any) -> Any:
        return batch["real"].sum()

    def fold(self, state: int, observation: Any) -> int:
        assert jax.process_index() == 0, "folded on another process"
        return state + int(observation)

    def result(self, state: int) -> dict[str, float]:
        return {"rows": float(state)}

    def figures(self) -> tuple[Figure, ...]:
        return (Figure("rows", "rows"),)


class Net(nn.Module):
    """Two convolutions with everything that a training step has to get right between them."""

    width: int = 4
    dropout: float = 0.2
    norm: bool = True
    num_classes: int = CLASSES

    @nn.compact
    def __call__(self, image: Any, *, train: bool = False) -> dict[str, Any]:
        x = image.astype(jnp.float32) / 255.0
        x = Conv(self.width, 3, padding=1, name="first")(x)
        if self.norm:
            x = BatchNorm(name="norm")(x, train=train)
        x = Dropout(self.dropout, name="drop")(nn.relu(x), train=train)
        return {
            "logits": Conv(self.num_classes, 1, name="last")(x),
            "aux_logits": Conv(self.num_classes, 1, name="aux")(x),
        }


@dataclass(frozen=True)
class Facts:
    name: str = "toy"
    classes: tuple[str, ...] = ("red", "green", "blue")
    palette: tuple[tuple[int, int, int], ...] = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    things: tuple[str, ...] = ()
    joints: tuple[str, ...] = ()
    tables: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"b": ("v", "w", "x", "y", "z")})


@dataclass(frozen=True)
class Toy:
    """Noise whose class is its brightest colour, void here and there; the stream is a function of seed and position."""

    size: int = 8
    images: int = 7
    poison: int | None = None  # the batch whose pixels are huge

    def rows(self, numbers: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        made = [np.random.default_rng((seed, int(i))) for i in numbers]
        image = np.stack([r.integers(0, 256, (self.size, self.size, 3), dtype=np.uint8) for r in made])
        label = image.argmax(-1).astype(np.int32)
        label[
            np.stack(
                [r.random((self.size, self.size)) < 0.1 + 0.5 * (i % 2) for i, r in zip(numbers, made, strict=True)]
            )
        ] = 255
        return {"image": image, "label": label, "real": np.ones(len(numbers), bool)}

    def train_batches(
        self, *, batch_size: int, seed: int, data_dir: Any = None, shard: tuple[int, int] = (0, 1)
    ) -> Any:
        return Stream(self, batch_size, seed, shard)

    def eval_batches(
        self,
        *,
        batch_size: int,
        split: str | None = None,
        data_dir: Any = None,
        shard: tuple[int, int] = (0, 1),
        limit: int | None = None,
    ) -> list[dict[str, np.ndarray]]:
        total = self.images if limit is None else min(limit, self.images)
        numbers = np.arange(shard[0], -(-total // shard[1]) * shard[1], shard[1])
        count = -(-len(numbers) // batch_size)
        batches = []
        for chunk in np.pad(numbers, (0, count * batch_size - len(numbers)), constant_values=total).reshape(count, -1):
            batch = self.rows(chunk % self.images, 10**6)
            batches.append({**batch, "real": chunk < total})
        return batches

    def facts(self, data_dir=None) -> Facts:
        return Facts()


class Stream:
    def __init__(self, toy: Toy, batch_size: int, seed: int, shard: tuple[int, int]):
        self.toy, self.batch_size, self.seed, self.shard, self.taken = toy, batch_size, seed, shard, 0

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        index, count = self.shard
        first = self.taken * self.batch_size * count + index
        self.taken += 1
        batch = self.toy.rows(np.arange(first, first + self.batch_size * count, count), self.seed)
        if self.toy.poison is not None and self.taken == self.toy.poison:
            batch["image"] = np.full(batch["image"].shape, np.nan, np.float32)
        return batch

    def get_state(self) -> dict[str, int]:
        return {"taken": self.taken}

    def set_state(self, state: dict[str, int]) -> None:
        self.taken = state["taken"]

    def close(self) -> None:
        pass


def stage(**changes: Any) -> Stage:
    """A stage of twelve steps; ``changes`` are fields of ``Stage``."""
    plain = Stage(
        model=Net(),
        task=Semantic(num_classes=CLASSES),
        data=Toy(),
        optimizer=SGD(Poly(0.1), weight_decay=1e-4, no_decay=(r"bias$",), lr_multipliers=((r"bias$", 2.0),)),
        steps=12,
        batch_size=4,
        ema=0.9,
        log_every=5,
        eval_every=6,
        save_every=4,
        eval_batch_size=3,
        pictures=2,
    )
    return dataclasses.replace(plain, **changes)


def recipe(**changes: Any) -> Recipe:
    """A recipe of one :func:`stage`."""
    return Recipe(stages=(stage(**changes),), name="toy")
