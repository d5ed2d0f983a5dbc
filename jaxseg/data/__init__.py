"""Data: records, joint transforms, the pipeline, and the data sets. Nothing here imports JAX: workers stay light.

``Data(train=Source("camvid", "train", transforms=(...)), val=Source("camvid", "val"))`` is what a recipe holds;
``sets`` prepares and describes data sets; ``transforms`` is the door to everything that moves a record.
"""

from jaxseg.data import sets, transforms
from jaxseg.data.facts import Facts
from jaxseg.data.pipeline import Batches, Data, Source

__all__ = ["Batches", "Data", "Facts", "Source", "sets", "transforms"]
