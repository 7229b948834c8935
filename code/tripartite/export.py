"""Terminal, astrocyte, tripartite circuit and continuous time as equations for Brian 2.

Text only: Brian 2 is not imported. Each Model has the strings of one NeuronGroup or Synapses, with
dimensions; `namespace` has the values of its parameters. Names are those of the module's
parameters and of the book. Stimberg et al. 2019 have most of these equations in Brian 2.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, NamedTuple

from .astrocyte import COOPERATIVITY, Astrocyte
from .checks import check_choice
from .quantities import Quantities


class Model(NamedTuple):
    """One NeuronGroup or Synapses.

    equations: its model; on_pre: what a presynaptic spike does; threshold, refractory, reset: the
    event of a cell. A string is empty where there is none.
    """

    equations: str
    on_pre: str = ""
    threshold: str = ""
    refractory: str = ""
    reset: str = ""


def namespace(*parameters: Quantities, umolar: Any = 1e-3, second: Any = 1.0) -> dict[str, Any]:
    """Values of parameters by name: plain numbers in SI units, or quantities.

    umolar, second: the units of Brian 2, for quantities; the defaults are their sizes in SI units,
    in which a micromole per litre is 1e-3 mol/m^3. Raises ValueError where two sets give one name
    different values.
    """
    sizes = {"1": 1.0, "uM": umolar, "s": second}
    sizes |= {"1/s": 1 / second, "uM/s": umolar / second, "1/(uM s)": 1 / (umolar * second)}
    values: dict[str, Any] = {}
    for p in parameters:
        for f in fields(p):  # type: ignore[arg-type]
            value = getattr(p, f.name) * sizes[f.metadata["unit"]]
            if f.name in values and values[f.name] != value:
                raise ValueError(f"{f.name}: {values[f.name]} in one set, {value} in another")
            values[f.name] = value
    return values


def terminal() -> Model:
    """Synapses of one presynaptic terminal each, as `synapse.relax` and `synapse.fire`.

    Namespace: a Synapse. Start with x_S = 1. G_S: gliotransmitter, by `talk` or set.
    """
    return Model(
        """
du_S/dt = -Omega_f*u_S : 1 (clock-driven)
dx_S/dt = Omega_d*(1 - x_S) : 1 (clock-driven)
dY_S/dt = -Omega_c*Y_S : mmolar (clock-driven)
dGamma_S/dt = O_G*G_S*(1 - Gamma_S) - Omega_G*Gamma_S : 1 (clock-driven)
G_S : mmolar
r_S : 1
""",
        on_pre="""
u_S += ((1 - Gamma_S)*U_0 + alpha*Gamma_S)*(1 - u_S)
r_S = u_S*x_S
x_S -= r_S
Y_S += rho_c*Y_T*r_S
""",
    )


def flow(difference: str) -> str:
    """`astrocyte.threshold_flow` of an expression, a difference of IP3."""
    x = f"({difference})"
    return f"0.5*(tanh(({x} - I_Theta)/omega_I) + tanh(({x} + I_Theta)/omega_I))"


def astrocyte(p: Astrocyte) -> Model:
    """NeuronGroup of cells, as `astrocyte.rates`. Start with h = 0.9, as is published.

    Namespace: the same p. Y: transmitter, by `listen` or set; I_bias: IP3 in the pipette; J_gap:
    gain through gap junctions, by `gaps`. Without receptors (O_beta = 0), Gamma_A keeps its value;
    in equilibrium (K_R > 0) it is no state but follows Y and C.
    """
    receptors = "dGamma_A/dt = O_N*Y*(1 - Gamma_A) - Omega_N*(1 + zeta*C/(C + K_KC))*Gamma_A : 1"
    if p.K_R:
        level = f"(Y/K_R)**{COOPERATIVITY}"
        free = f"(1 + zeta*C/(C + K_KC))**{COOPERATIVITY}"
        receptors = f"Gamma_A = {level}/({level} + {free}) : 1"
    return Model(
        f"""
{receptors if p.O_beta else "Gamma_A : 1"}
dI/dt = J_beta + J_delta - J_3K - Omega_5P*I + J_ex + J_gap : mmolar
dC/dt = J_r + J_l - J_p : mmolar
dh/dt = O_2*(Q_2 - (Q_2 + C)*h) : 1
J_beta = O_beta*Gamma_A : mmolar/second
J_delta = O_delta/(1 + I/kappa_delta)*C**2/(C**2 + K_delta**2) : mmolar/second
J_3K = O_3K*C**4/(C**4 + K_D**4)*I/(I + K_3K) : mmolar/second
J_ex = -F_ex*{flow("I - I_bias")} : mmolar/second
J_r = Omega_C*(I/(I + d_1)*C/(C + d_5)*h)**3*(C_T - (1 + rho_A)*C) : mmolar/second
J_l = Omega_L*(C_T - (1 + rho_A)*C) : mmolar/second
J_p = O_P*C**2/(C**2 + K_P**2) : mmolar/second
Q_2 = d_2*(I + d_1)/(I + d_3) : mmolar
Y : mmolar
I_bias : mmolar
J_gap : mmolar/second
"""
    )


def gaps() -> Model:
    """Synapses from astrocytes to astrocytes: gap junctions, as `astrocyte.coupling`.

    Connect every pair in both directions. Namespace: an Astrocyte.
    """
    return Model(f"J_gap_post = F*{flow('I_pre - I_post')} : mmolar/second (summed)")


def store() -> Model:
    """NeuronGroup of gliotransmitter, one for each cell, as `release.recycle` and `exocytose`.

    C is linked to the cells' calcium. Give it order = 1, so that a crossing counts in the step that
    makes it. Namespace: a Gliotransmission. Start with x_A = 1.
    """
    return Model(
        """
dx_A/dt = Omega_A*(1 - x_A) : 1
dG_A/dt = -Omega_e*G_A : mmolar
C : mmolar (linked)
""",
        threshold="C > C_Theta",
        refractory="C > C_Theta",
        reset="""
G_A += rho_e*G_T*U_A*x_A
x_A -= U_A*x_A
""",
    )


def listen(pooling: str = "sum") -> Model:
    """Synapses from terminals to astrocytes, as `circuit.pool`; pooling: "sum" or "mean"."""
    check_choice("pooling", pooling, ("mean", "sum"))
    share = "Y_S_pre" if pooling == "sum" else "Y_S_pre/N_incoming"
    return Model(f"Y_post = {share} : mmolar (summed)")


def talk() -> Model:
    """Synapses from stores to terminals, as `circuit.spread`."""
    return Model("G_S_post = G_A_pre : mmolar (summed)")


def network() -> dict[str, Model]:
    """The network in continuous time, as `dynamics.rates`; namespace: a Times.

    NeuronGroups: hidden, output, and astrocyte, which has one cell. Synapses: hebbian from hidden to
    output and presynaptic from hidden to astrocyte; connect all pairs, and link P of the output to
    the astrocyte's. The stimulus is phi(t, i), u(t, i), w(t) and r(t): TimedArrays, in the namespace beside the
    parameters. Start with P = 1. Sums over neurons are held over a step, so the network is
    integrated to first order in it.
    """
    return {
        "hidden": Model("dh/dt = (phi(t, i) - h)/tau_h : 1"),
        "output": Model(
            """
dl/dt = (u(t, i) + r(t)*P*drive - l)/tau_l : 1
drive : 1
P : 1 (linked)
"""
        ),
        "astrocyte": Model(
            """
dP/dt = r(t)*(1 - P*p)/tau_p : 1
p : 1
"""
        ),
        "hebbian": Model(
            """
dH/dt = w(t)*l_post*h_pre/T - leak_H*H : 1 (clock-driven)
drive_post = H*h_pre : 1 (summed)
"""
        ),
        "presynaptic": Model(
            """
dg/dt = w(t)*h_pre/T - leak_g*g : 1 (clock-driven)
p_post = g*h_pre : 1 (summed)
"""
        ),
    }
