"""Parameters of the G-ChI model of an astrocyte, with units, sources and published sets.

Calcium: Li and Rinzel 1994; IP3: De Pitta et al. 2009; receptors, gap junctions and published
sets: Stimberg et al. 2019, after Goldberg et al. 2010 and De Pitta et al. 2011.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from ..quantities import Quantities, quantity

_calcium = partial(quantity, source="Li and Rinzel 1994")
_ip3 = partial(quantity, source="De Pitta et al. 2009")
_receptors = partial(quantity, source="Stimberg et al. 2019")
_exchange = partial(quantity, source="Goldberg et al. 2010")


@dataclass(frozen=True)
class Astrocyte(Quantities):
    """Parameters of the G-ChI model. O_beta = 0 leaves the ChI model, without receptors.

    K_R > 0 puts the receptors in equilibrium with transmitter, as De Pitta et al. 2009 have them:
    then O_N and Omega_N have no effect.
    """

    # calcium
    O_P: float = _calcium("uM/s", "highest rate of SERCA uptake", 0, 100)
    K_P: float = _calcium("uM", "calcium affinity of SERCA", 0, 100, above=True)
    C_T: float = _calcium("uM", "total free calcium, per volume of cytosol", 0, 100, above=True)
    rho_A: float = _calcium("1", "volume of ER over that of cytosol", 0, 10, above=True)
    Omega_C: float = _calcium("1/s", "highest rate of release through IP3 receptors", 0, 1e3)
    Omega_L: float = _calcium("1/s", "leak out of the ER", 0, 1e3)
    d_1: float = _calcium("uM", "IP3 binding affinity", 0, 100, above=True)
    d_2: float = _calcium("uM", "calcium inactivation dissociation", 0, 100, above=True)
    d_3: float = _calcium("uM", "IP3 dissociation", 0, 100, above=True)
    d_5: float = _calcium("uM", "calcium activation dissociation", 0, 100, above=True)
    O_2: float = _calcium("1/(uM s)", "binding of calcium to the inhibiting site", above=True)
    # IP3
    O_beta: float = _ip3("uM/s", "highest production by PLC beta", 0, 1e3)
    O_N: float = _receptors("1/(uM s)", "binding of transmitter to receptors")
    Omega_N: float = _receptors("1/s", "inactivation of receptors", above=True)
    K_KC: float = _receptors("uM", "calcium affinity of PKC", 0, 100, above=True)
    zeta: float = _receptors("1", "highest reduction of affinity by PKC", 0, 1e3)
    O_delta: float = _ip3("uM/s", "highest production by PLC delta", 0, 1e3)
    kappa_delta: float = _ip3("uM", "inhibition of PLC delta by IP3", 0, 100, above=True)
    K_delta: float = _ip3("uM", "calcium affinity of PLC delta", 0, 100, above=True)
    Omega_5P: float = _ip3("1/s", "degradation of IP3 by IP-5P", 0, 1e3)
    K_D: float = _ip3("uM", "calcium affinity of IP3-3K", 0, 100, above=True)
    K_3K: float = _ip3("uM", "IP3 affinity of IP3-3K", 0, 100, above=True)
    O_3K: float = _ip3("uM/s", "highest degradation by IP3-3K", 0, 1e3)
    # exchange of IP3 with a pipette and with neighbours
    F_ex: float = _exchange("uM/s", "highest exogenous flow of IP3", 0, 1e3)
    F: float = _exchange("uM/s", "highest flow of IP3 through gap junctions", 0, 1e3)
    I_Theta: float = _exchange("uM", "threshold difference of IP3", 0, 100)
    omega_I: float = _exchange("uM", "width of that threshold", 0, 100, above=True)
    # receptors in equilibrium
    K_R: float = _ip3("uM", "transmitter affinity in equilibrium; 0: dynamic", 0, 100, default=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.I_Theta > 250 * self.omega_I:
            raise ValueError(f"omega_I = {self.omega_I:g} uM: must be at least I_Theta / 250")


_EX2 = Astrocyte(
    O_P=0.9, K_P=0.1, C_T=2.0, rho_A=0.18, Omega_C=6.0, Omega_L=0.1,
    d_1=0.13, d_2=1.05, d_3=0.9434, d_5=0.08, O_2=0.2,
    O_beta=5.0, O_N=0.3, Omega_N=0.5, K_KC=0.5, zeta=10.0,
    O_delta=0.2, kappa_delta=1.5, K_delta=0.3, Omega_5P=0.1, K_D=0.5, K_3K=1.0, O_3K=4.5,
    F_ex=0.09, F=0.0, I_Theta=0.3, omega_I=0.05,
)  # fmt: skip
_EX4 = replace(
    _EX2, K_P=0.05, O_beta=3.2, O_delta=0.6, K_delta=0.1, Omega_5P=0.05, K_D=0.7, F_ex=2.0, F=2.0
)
_DEPITTA_FM = replace(
    _EX4, O_beta=0.0, d_2=1.049, d_5=0.08234, rho_A=0.185, Omega_L=0.11, O_delta=0.05, O_3K=2.0,
    F_ex=0.0, F=0.0,
)  # fmt: skip
_DEPITTA_AM = replace(_DEPITTA_FM, K_P=0.1, O_delta=0.02, Omega_5P=0.04)
_glutamate = partial(replace, K_R=1.3, zeta=10 / 1.3, K_KC=0.6)  # K_p = K_R zeta, K_pi = K_KC

ASTROCYTES: dict[str, Astrocyte] = {
    "stimberg2019-ex2": _EX2,
    "stimberg2019-ex3": replace(_EX4, O_beta=0.0, F=0.0),
    "stimberg2019-ex4": _EX4,
    "stimberg2019-ex5": replace(_EX4, O_beta=0.0, F_ex=0.09, F=0.09),
    "stimberg2019-ex6": replace(_EX4, O_beta=0.5, O_delta=1.2, F_ex=0.0, F=0.09),
    # table 1; its K_D and K_3K are those of the others swapped. PLC beta is not in the model, and
    # the stimulus is an I_bias of 2 uM; F_ex is not in the table and taken equal to F
    "lallouette2014": replace(
        _EX4, O_beta=0.0, d_2=1.049, d_5=0.08234, rho_A=0.185, Omega_L=0.11, O_delta=0.7,
        Omega_5P=0.21, K_D=1.0, K_3K=0.7,
    ),
    # amplitude- and frequency-modulated cells, without neighbours or a pipette. The first two have
    # no PLC beta: choose F_ex to drive them. The others have it, in equilibrium with transmitter;
    # its numbers by way of the code of Manninen et al. 2017, ModelDB 223269
    "depitta2009-am": _DEPITTA_AM,
    "depitta2009-fm": _DEPITTA_FM,
    "depitta2009-am-glutamate": _glutamate(_DEPITTA_AM, O_beta=0.2),
    "depitta2009-fm-glutamate": _glutamate(_DEPITTA_FM, O_beta=0.5),
}  # fmt: skip
"""Published sets, by paper and example."""
