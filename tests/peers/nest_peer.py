"""Astrocytes by NEST: states that ours are tested against.

    _build/peers/nest/bin/python tests/peers/nest_peer.py data/reference_states

Needs NEST (wheels for Linux) in an environment of its own (`environment.py nest`). Shares no code
with the book. NEST's `astrocyte_lr_1994` is the model of Li and Rinzel 1994 with the numbers of De
Pitta et al. 2009, its defaults; it integrates by an adaptive Runge-Kutta-Fehlberg of its own.
Concentrations in uM, times in s, currents in pA.

nest-li-rinzel.npz: calcium at held IP3, by a time constant beyond the run. nest-tripartite.npz: ten
neurons that fire for a while, a neuron that listens to them and an astrocyte that listens too and
answers with a slow inward current, all joined by NEST's rule for tripartite synapses; and neurons
under injected currents, with and without the current of an astrocyte whose calcium stands still.
"""

import sys
from pathlib import Path

import nest
import numpy as np

LEVELS = (0.16, 0.3, 0.4, 0.5, 0.7, 1.0)  # uM: at rest, oscillating, and beyond
DURATION, EVERY = 60.0, 0.1  # s
SENDERS, RATE, ON, OFF = 10, 4.0, 10.0, 40.0  # 1/s, s
JUMP, WEIGHT, DELAY = 0.001, 1.5, 1.0  # uM a spike; pA, ms; of each of the ten connections
INJECTED = np.linspace(300.0, 1200.0, 19)  # pA
COUNTED = (30.0, 60.0)  # s


def held_ip3(folder: Path) -> None:
    nest.ResetKernel()
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
        folder / "nest-li-rinzel.npz",
        IP3=np.array(LEVELS),
        times=1e-3 * found["times"][of[0]],
        C=arrays["Ca_astro"],
        h=arrays["h_IP3R"],
        start=np.array([start["Ca_astro"], start["h_IP3R"]])[:, 0],
        version=np.array(nest.__version__),
    )


def tripartite(folder: Path) -> None:
    nest.ResetKernel()
    nest.resolution = 0.1  # ms
    nest.rng_seed = 7
    noise = nest.Create(
        "poisson_generator", SENDERS, {"rate": RATE, "start": 1e3 * ON, "stop": 1e3 * OFF}
    )
    senders = nest.Create("parrot_neuron", SENDERS)
    neuron = nest.Create("aeif_cond_alpha_astro", params={"tau_syn_ex": 2.0, "I_e": 620.0})
    astrocyte = nest.Create("astrocyte_lr_1994", params={"delta_IP3": JUMP})
    start = astrocyte.get(["IP3", "Ca_astro", "h_IP3R"])
    nest.Connect(noise, senders, "one_to_one")
    nest.TripartiteConnect(
        senders,
        neuron,
        astrocyte,
        conn_spec={"rule": "pairwise_bernoulli", "p": 1.0},
        third_factor_conn_spec={
            "rule": "third_factor_bernoulli_with_pool",
            "p": 1.0,
            "pool_size": 1,
            "pool_type": "block",
        },
        syn_specs={
            "primary": {"synapse_model": "tsodyks_synapse", "weight": 1.0, "delay": DELAY},
            "third_in": {"synapse_model": "static_synapse", "weight": 1.0, "delay": DELAY},
            "third_out": {"synapse_model": "sic_connection", "weight": WEIGHT, "delay": DELAY},
        },
    )
    still = nest.Create(
        "astrocyte_lr_1994", params={"IP3": 1.0, "IP3_0": 1.0, "tau_IP3": 1e15, "delta_IP3": 0.0}
    )
    injected = [{"I_e": float(current)} for current in INJECTED]
    alone, helped = (
        nest.Create("aeif_cond_alpha_astro", len(INJECTED), params=injected) for _ in range(2)
    )
    out = {"synapse_model": "sic_connection", "weight": SENDERS * WEIGHT, "delay": DELAY}
    nest.Connect(still, helped, syn_spec=out)

    def meter(nodes, names):
        device = nest.Create("multimeter", params={"record_from": names, "interval": 1e3 * EVERY})
        nest.Connect(device, nodes)
        return device

    def spikes(nodes):
        device = nest.Create("spike_recorder")
        nest.Connect(nodes, device)
        return device

    of_cell = meter(astrocyte, ["Ca_astro", "IP3", "h_IP3R"])
    of_neuron, of_helped = meter(neuron, ["I_SIC"]), meter(helped[:1], ["I_SIC"])
    sent, fired = spikes(senders), [spikes(group) for group in (alone, helped)]
    fires = spikes(neuron)
    nest.Simulate(1e3 * DURATION + 1.0)

    def rates(device, group):
        times, who = 1e-3 * device.events["times"], device.events["senders"]
        counted = who[(times > COUNTED[0]) & (times <= COUNTED[1])]
        counts = [np.sum(counted == node.global_id) for node in group]
        return np.array(counts) / (COUNTED[1] - COUNTED[0])

    current = of_helped.events["I_SIC"][1e-3 * of_helped.events["times"] > COUNTED[0]]
    np.savez_compressed(
        folder / "nest-tripartite.npz",
        spikes=1e-3 * np.sort(sent.events["times"]),
        start=np.array([start[name] for name in ("IP3", "Ca_astro", "h_IP3R")]),
        jump=JUMP,
        delay=1e-3 * DELAY,
        weight=SENDERS * WEIGHT,
        times=1e-3 * of_cell.events["times"],
        I=of_cell.events["IP3"],
        C=of_cell.events["Ca_astro"],
        h=of_cell.events["h_IP3R"],
        current=of_neuron.events["I_SIC"],
        neuron_spikes=1e-3 * fires.events["times"],
        injected=INJECTED,
        rate_alone=rates(fired[0], alone),
        rate_helped=rates(fired[1], helped),
        current_helped=np.array([current.min(), current.max()]),
        version=np.array(nest.__version__),
    )


if __name__ == "__main__":
    for make in (held_ip3, tripartite):
        make(Path(sys.argv[1]))
