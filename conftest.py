"""Kernels that nbval starts inherit this: one thread each, no progress bars."""

import os

from companion.execute import KERNEL

os.environ.update(KERNEL)
