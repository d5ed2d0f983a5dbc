"""What a task asks of a loss."""

from typing import ClassVar, Protocol, runtime_checkable

from jax import Array


@runtime_checkable
class Loss(Protocol):
    """A loss of a semantic task: a frozen dataclass with a name and a weight, called on logits and labels."""

    name: ClassVar[str]
    """Under which it is logged."""

    @property
    def weight(self) -> float:
        """Its factor in the total."""
        ...

    def __call__(self, logits: Array, label: Array, pixel_weight: Array | None = None) -> tuple[Array, Array]:
        """Return values and counts, each with the batch as first axis; the task sums both over the real rows."""
        ...
