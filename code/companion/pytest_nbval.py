"""nbval compares a cell's outputs as the rest of the book does; its kernels have one thread each."""

import os

from nbval.plugin import IPyNbCell

from .compare import cell
from .execute import KERNEL

os.environ.update(KERNEL)


def _compare_outputs(self, test, ref, skip_compare=None) -> bool:
    self.comparison_traceback = cell(test, ref)
    return not self.comparison_traceback


IPyNbCell.compare_outputs = _compare_outputs
