"""The `ener` loss: energies, forces, virials, atomic energies (spec formats, section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deepmd.array_model.losses.base import Errors, Label, Loss, mean
from deepmd.array_model.namespace import Array, Namespace
from deepmd.array_model.pairs import Pairs

TERMS = ("e", "f", "v", "ae", "pf")
"""Terms of the `ener` loss: energy, force, virial, atomic energy, force weighted by `atom_pref`."""

SHAPES = {
    "energy": Label(()),
    "force": Label((3,), per_atom=True),
    "virial": Label((9,)),
    "atom_ener": Label((), per_atom=True),
    "atom_pref": Label((3,), per_atom=True, missing=1.0),
    "atom_ener_coeff": Label((), per_atom=True, missing=1.0),
}

OUTPUTS = {"e": "energy", "f": "force", "pf": "force", "v": "virial", "ae": "atom_energy"}
"""The output that each term reads."""

LABELS = {"e": "energy", "f": "force", "v": "virial", "ae": "atom_ener", "pf": "force"}
"""The label that each term compares with."""


@dataclass(frozen=True)
class EnerLoss(Loss):
    """Options of the `ener` loss. A term is on when its start or its limit prefactor is not zero.

    The prefactor of a term at learning rate lr is limit + (start - limit) * lr / start_lr.
    """

    start_pref_e: float = 0.02
    limit_pref_e: float = 1.0
    start_pref_f: float = 1000.0
    limit_pref_f: float = 1.0
    start_pref_v: float = 0.0
    limit_pref_v: float = 0.0
    start_pref_ae: float = 0.0
    limit_pref_ae: float = 0.0
    start_pref_pf: float = 0.0
    limit_pref_pf: float = 0.0
    relative_f: float | None = None
    enable_atom_ener_coeff: bool = False
    use_default_pf: bool = False
    use_huber: bool = False
    huber_delta: float | tuple[float, float, float] = 0.01
    loss_func: str = "mse"
    f_use_norm: bool = False
    intensive_ener_virial: bool = False

    kind: ClassVar[str] = "ener"
    predicts: ClassVar[tuple[str, ...]] = ("energy",)

    def __post_init__(self) -> None:
        for term in TERMS:
            if min(self.start(term), self.limit(term)) < 0.0:
                raise ValueError(f"start_pref_{term} is {self.start(term)}, limit_pref_{term} {self.limit(term)}; they must not be negative")
        if any(self._delta(term) <= 0.0 for term in ("e", "f", "v")):
            raise ValueError(f"huber_delta is {self.huber_delta}; it must be positive")
        if self.loss_func not in ("mse", "mae"):
            raise ValueError(f"loss_func is {self.loss_func!r}; accepted: mse, mae")
        if self.f_use_norm and not (self.use_huber or self.loss_func == "mae"):
            raise ValueError("f_use_norm needs use_huber or loss_func mae")
        if not self.terms():
            raise ValueError("all prefactors are zero: there is nothing to train on")

    def terms(self) -> tuple[str, ...]:
        """Terms that are on."""
        return tuple(term for term in TERMS if self.start(term) != 0.0 or self.limit(term) != 0.0)

    def label(self, term: str) -> str:
        """Return the label that a term compares with."""
        return LABELS[term]

    def labels(self) -> dict[str, Label]:
        """Return the data that the loss reads."""
        extra = [*(["atom_pref"] if "pf" in self.terms() else []), *(["atom_ener_coeff"] if self.enable_atom_ener_coeff else [])]
        return {name: SHAPES[name] for name in (*(LABELS[term] for term in self.terms()), *extra)}

    def found(self, available: frozenset[str]) -> dict[str, bool]:
        """Return which terms have their labels; forces weighted by `atom_pref` also need that, or `use_default_pf`."""
        found = super().found(available)
        return {**found, "pf": found["pf"] and ("atom_pref" in available or self.use_default_pf)} if "pf" in found else found

    def needed(self) -> frozenset[str]:
        """Return the outputs that the loss reads."""
        return frozenset(OUTPUTS[term] for term in self.terms()) | (frozenset(["atom_energy"]) if self.enable_atom_ener_coeff else frozenset())

    def columns(self) -> dict[str, str]:
        """Return what the learning curve calls each term."""
        kind = "mae" if self.loss_func == "mae" else "rmse"
        return {term: f"{kind}_{term}" for term in self.terms()}

    def shows_total(self) -> bool:
        """Whether the learning curve has a column for the root of the loss."""
        return True

    def is_square(self, term: str) -> bool:
        """Whether the root of what is shown is displayed."""
        return self.loss_func != "mae"

    def errors(self, prediction: dict[str, Array], label: dict[str, Array], pairs: Pairs, natoms_F: Array, *, xp: Namespace) -> Errors:
        """Return for each term its contribution to the loss (`loss`) and the mean that is displayed (`shown`).

        Energies (F,), forces (N, 3), virials (F, 9), atomic energies (N,); eV and Angstrom. `natoms_F` are the real atoms
        of each frame. Shown is the mean square, or the mean absolute value under `loss_func` mae; e and v per atom.
        """
        out = {}
        for term in self.terms():
            delta, scale = self._residual(term, prediction, label, pairs, natoms_F, xp=xp)
            per_atom = delta if scale is None else delta / scale
            weight = label["atom_pref"] if term == "pf" else None
            shown = xp.abs(per_atom) if self.loss_func == "mae" else per_atom * per_atom
            if term == "f" and self.f_use_norm:
                delta = per_atom = xp.sqrt(xp.sum(delta * delta, axis=-1) + 1e-30)
            if self.use_huber and term != "pf":
                value = huber(per_atom, self._delta(term), xp=xp)
            elif self.loss_func == "mae":
                value = xp.abs(per_atom)
            elif scale is None or self.intensive_ener_virial:
                value = per_atom * per_atom
            else:
                value = delta * delta / scale
            if weight is not None:
                value, shown = value * weight, shown * weight
            out[term] = {"loss": mean(value, xp=xp), "shown": mean(shown, xp=xp)}
        return out

    def _residual(
        self, term: str, prediction: dict[str, Array], label: dict[str, Array], pairs: Pairs, natoms_F: Array, *, xp: Namespace
    ) -> tuple[Array, Array | None]:
        """Label minus prediction, and the number of atoms that it is to be divided by (None: not at all)."""
        if term == "e":
            energy_F = prediction["energy"]
            if self.enable_atom_ener_coeff:
                energy_F = xp.segment_sum(label["atom_ener_coeff"] * prediction["atom_energy"], pairs.frame_N, xp.shape(natoms_F)[0])
            return label["energy"] - energy_F, natoms_F
        if term == "v":
            return label["virial"] - prediction["virial"], xp.expand_dims(natoms_F, axis=-1)
        if term == "ae":
            return label["atom_ener"] - prediction["atom_energy"], None
        delta_N3 = label["force"] - prediction["force"]
        if self.relative_f is not None and term == "f":
            delta_N3 = delta_N3 / (xp.sqrt(xp.sum(label["force"] * label["force"], axis=-1, keepdims=True)) + self.relative_f)
        return delta_N3, None

    def _delta(self, term: str) -> float:
        if isinstance(self.huber_delta, float | int):
            return float(self.huber_delta)
        return self.huber_delta[{"e": 0, "ae": 0, "f": 1, "v": 2}[term]]


def huber(x: Array, delta: float, *, xp: Namespace) -> Array:
    """Quadratic x^2/2 up to |x| = delta, linear with the same slope beyond."""
    size = xp.abs(x)
    return xp.where(size < delta, 0.5 * x * x, delta * (size - 0.5 * delta))
