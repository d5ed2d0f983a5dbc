"""Data: records, joint transforms, the pipeline, and the data sets. Nothing here imports JAX: workers stay light.

``Data(train=Source("camvid", "train", transforms=(...)), val=Source("camvid", "val"))`` is what a recipe holds;
``sets`` prepares and describes data sets; ``transforms`` is the door to everything that moves a record.
"""

from jaxseg.data import sets, transforms
from jaxseg.data.examples import Source
from jaxseg.data.facts import Facts
from jaxseg.data.mixture import Mixture, Part
from jaxseg.data.pipeline import Batches, Data

__all__ = ["Batches", "Data", "Facts", "Mixture", "Part", "Source", "sets", "transforms"]
