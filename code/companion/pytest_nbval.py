"""nbval compares a cell's outputs as the rest of the book does.

Its kernels have one thread each, and draw of every figure the picture of the page, but not its files.
"""

import os

from nbval.plugin import IPyNbCell, IPyNbFile

from .compare import cell
from .execute import KERNEL

os.environ.update(KERNEL)


def _compare_outputs(self, test, ref, skip_compare=None) -> bool:
    self.comparison_traceback = cell(test, ref)
    return not self.comparison_traceback


def _setup(self, start=IPyNbFile.setup) -> None:
    before = os.environ.get("TRIPARTITE_PICTURES", "all")
    os.environ["TRIPARTITE_PICTURES"] = "svg"
    try:
        start(self)
    finally:
        os.environ["TRIPARTITE_PICTURES"] = before


IPyNbCell.compare_outputs = _compare_outputs
IPyNbFile.setup = _setup
