"""One of several processes of a run: ``python -m tests.train.joined_run PLACEMENT WORKDIR STEPS``."""

import sys

from jaxseg.recipe import Recipe
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.log import Console
from jaxseg.train.loop import fit
from jaxseg.train.placement import by_name, join_cluster
from tests.train.toys import CLASSES, FoldedRows, Net, recipe


def joined_recipe(steps: int) -> Recipe:
    """Without dropout: each process takes every other row, so the same rows stand in another order."""
    task = Semantic(CLASSES, extra_metrics=(FoldedRows(),))
    return recipe(model=Net(dropout=0.0), task=task, steps=steps, save_every=4, eval_every=4, pictures=2)


if __name__ == "__main__":
    assert join_cluster()
    value = joined_recipe(int(sys.argv[3]))
    print(sorted(fit(value, sys.argv[2], placement=by_name(sys.argv[1]), log=Console(quiet=True)).items()))
