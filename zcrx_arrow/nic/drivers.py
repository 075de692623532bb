# SPDX-License-Identifier: Apache-2.0
"""
What drivers of NICs want differently, as far as it is known.

Read in Linux 7.2 and 7.3 (drivers/net/ethernet) and in what others report; no such NIC was at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["HARDWARE", "KNOWN", "Quirks", "quirks_of"]


@dataclass(frozen=True, slots=True)
class Quirks:
    """
    One driver's ways.

    Attributes
    ----------
    known : bool
        Whether it is known to have queue management and unreadable-memory page pools.
    features : tuple of str
        To be switched on before header/data split.
    hds_thresh : bool
        Whether it has that setting.
    auto_for : tuple of str
        What of header/data split is set back to ``"auto"``: since the driver refuses it, or since
        it is what the driver does by itself, and cannot be told from it.
    note : str
        For people.
    """

    known: bool = True
    features: tuple[str, ...] = ()
    hds_thresh: bool = True
    auto_for: tuple[str, ...] = ()
    note: str = ""


KNOWN: Final = {
    "bnxt_en": Quirks(
        auto_for=("off",),
        note="bnxt_en refuses tcp-data-split off: it is set back to auto, the driver's choice",
    ),
    "fbnic": Quirks(
        auto_for=("on",), note="fbnic splits from a threshold on by default: it is set to 0"
    ),
    "gve": Quirks(
        hds_thresh=False, note="gve has no hds-thresh and chunks of 4 KiB only (DQO-RDA queues)"
    ),
    "mlx5_core": Quirks(
        features=("rx-gro-hw",),
        auto_for=("on",),
        note="mlx5_core splits only with rx-gro-hw (SHAMPO) switched on",
    ),
    "zcsim": Quirks(note="zcsim is a simulated NIC, for tests"),
}
HARDWARE: Final = ", ".join(sorted(set(KNOWN) - {"zcsim"}))
"""The drivers of real NICs, for people; as of Linux 7.3."""
_UNKNOWN: Final = Quirks(known=False)


def quirks_of(driver: str | None) -> Quirks:
    """Look a driver up; one that is not known is treated as a plain one."""
    return KNOWN.get(driver or "", _UNKNOWN)
