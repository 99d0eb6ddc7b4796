"""Many shapes on many processes, and what is kept of them.

`work.py` does one shape, a pure function of plain values, so that any scheduler can send it anywhere;
`cluster.py` runs such a function over many of them, in this process or on a Dask cluster; `manifest.py`
remembers what is done, `batch.py` joins the three, `report.py` shows the result. `tiling.py` makes a
batch of the tiles of one huge scan.
"""

from ocsdf3d.distribute.batch import Summary, current_rows, named, run_batch, sources_of
from ocsdf3d.distribute.cluster import over, require_dask
from ocsdf3d.distribute.manifest import Manifest
from ocsdf3d.distribute.report import report_of
from ocsdf3d.distribute.tiling import Unfinished, fit_tiles
from ocsdf3d.distribute.work import Job, carry_out

__all__ = [
    "Job",
    "Manifest",
    "Summary",
    "Unfinished",
    "carry_out",
    "current_rows",
    "fit_tiles",
    "named",
    "over",
    "report_of",
    "require_dask",
    "run_batch",
    "sources_of",
]
