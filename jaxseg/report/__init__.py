"""Pages that people look at: what a network was measured to do, with its pictures, in one HTML file."""

from jaxseg.report.evidence import Evidence, watch
from jaxseg.report.measured import write_report

__all__ = ["Evidence", "watch", "write_report"]
