"""Figures of merit over whole splits: ``init`` and ``fold`` and ``result`` on the host, ``observe`` on the device."""

from jaxseg.metrics.confusion import Confusion, confusion_matrix

__all__ = ["Confusion", "confusion_matrix"]
