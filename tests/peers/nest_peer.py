"""Calcium at held IP3 by NEST: states that our astrocyte is tested against.

    python tests/peers/nest_peer.py data/reference_states

Needs NEST (`nest-simulator` 3.10, wheels for Linux) in an environment of its own. Shares no code
with the book. NEST's `astrocyte_lr_1994` is the model of Li and Rinzel 1994 with the numbers of De
Pitta et al. 2009, its defaults; it integrates by an adaptive Runge-Kutta-Fehlberg of its own. IP3 is
held by a time constant beyond the run. Concentrations in uM, times in s.
"""

import sys
from pathlib import Path

import nest
import numpy as np

LEVELS = (0.16, 0.3, 0.4, 0.5, 0.7, 1.0)  # uM: at rest, oscillating, and beyond
DURATION, EVERY = 60.0, 0.1  # s


def main() -> None:
    nest.resolution = 0.1  # ms
    held = [{"IP3": x, "IP3_0": x, "tau_IP3": 1e15, "delta_IP3": 0.0} for x in LEVELS]
    cells = nest.Create("astrocyte_lr_1994", len(LEVELS), params=held)
    start = cells.get(["Ca_astro", "h_IP3R"])
    recorder = nest.Create(
        "multimeter", params={"record_from": ["Ca_astro", "IP3", "h_IP3R"], "interval": 1e3 * EVERY}
    )
    nest.Connect(recorder, cells)
    nest.Simulate(1e3 * DURATION + 1.0)
    found = recorder.events
    of = [found["senders"] == cell.global_id for cell in cells]
    arrays = {name: np.array([found[name][one] for one in of]) for name in ("Ca_astro", "h_IP3R")}
    assert all(np.ptp(found["IP3"][one]) == 0 for one in of)
    np.savez_compressed(
        Path(sys.argv[1]) / "nest-li-rinzel.npz",
        IP3=np.array(LEVELS),
        times=1e-3 * found["times"][of[0]],
        C=arrays["Ca_astro"],
        h=arrays["h_IP3R"],
        start=np.array([start["Ca_astro"], start["h_IP3R"]])[:, 0],
        version=np.array(nest.__version__),
    )


if __name__ == "__main__":
    main()
