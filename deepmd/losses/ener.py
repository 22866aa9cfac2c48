"""The `ener` loss: energies, forces, virials, atomic energies (docs/input.md#loss)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from deepmd.array_model.namespace import Array, Namespace
from deepmd.array_model.neighbours import Neighbours
from deepmd.losses.base import Label, Loss, Term, TermErrors, mean

FORCES = Label((3,), per_atom=True)

TERMS = {
    "e": Term("energy", "energy", Label(())),
    "f": Term("force", "force", FORCES),
    "v": Term("virial", "virial", Label((9,))),
    "ae": Term("atom_energy", "atom_ener", Label((), per_atom=True)),
    "pf": Term("force", "force", FORCES),
}
"""Terms of the `ener` loss: energy, force, virial, atomic energy, force weighted by `atom_pref`."""


@dataclass(frozen=True)
class EnerLoss(Loss):
    """Options of the `ener` loss."""

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
    shows_total: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(self._delta(term) <= 0.0 for term in ("e", "f", "v")):
            raise ValueError(f"huber_delta is {self.huber_delta}; it must be positive")
        if self.loss_func not in ("mse", "mae"):
            raise ValueError(f"loss_func is {self.loss_func!r}; accepted: mse, mae")
        if self.f_use_norm and not (self.use_huber or self.loss_func == "mae"):
            raise ValueError("f_use_norm needs use_huber or loss_func mae")

    def every_term(self) -> dict[str, Term]:
        """Return `TERMS` with their names in the learning curve."""
        kind = "mae" if self.loss_func == "mae" else "rmse"
        return {name: replace(term, column=f"{kind}_{name}") for name, term in TERMS.items()}

    def weight_labels(self) -> dict[str, Label]:
        """Return the weights of forces (`atom_pref`) and of atomic energies (`atom_ener_coeff`)."""
        used = {"atom_pref": "pf" in self.terms(), "atom_ener_coeff": self.enable_atom_ener_coeff}
        sizes = {"atom_pref": (3,), "atom_ener_coeff": ()}
        return {name: Label(sizes[name], per_atom=True, missing=1.0) for name, use in used.items() if use}

    def find_labelled(self, available: frozenset[str]) -> dict[str, bool]:
        """Return {term: whether its data are available}; `pf` also needs `atom_pref` or `use_default_pf`."""
        weighted = "atom_pref" in available or self.use_default_pf
        return {term: found and (term != "pf" or weighted) for term, found in super().find_labelled(available).items()}

    def needed(self) -> frozenset[str]:
        """Return the outputs of the model that the loss reads."""
        return super().needed() | (frozenset(["atom_energy"]) if self.enable_atom_ener_coeff else frozenset())

    def is_square(self, term: str) -> bool:
        """Whether `shown` is a mean square: the learning curve displays its root."""
        return self.loss_func != "mae"

    def errors(
        self,
        prediction: dict[str, Array],
        label: dict[str, Array],
        neighbours: Neighbours,
        natoms_F: Array,
        *,
        xp: Namespace,
    ) -> TermErrors:
        """Return the contribution of each term to the loss (`loss`), and its displayed mean (`shown`).

        Energies (F,), forces (N, 3), virials (F, 9), atomic energies (N,); eV and Angstrom. `natoms_F` is the number of
        real atoms of each frame. `shown` is the mean square, or with `loss_func` "mae" the mean absolute value; e and v
        per atom.
        """
        out = {}
        # e and v with n = `scale` atoms: square delta^2/n, or (delta/n)^2 with `intensive_ener_virial`; |delta|/n
        for term in self.terms():
            delta, scale = self._residual(term, prediction, label, neighbours, natoms_F, xp=xp)
            per_atom = delta if scale is None else delta / scale
            shown = xp.abs(per_atom) if self.loss_func == "mae" else per_atom * per_atom
            if term == "f" and self.f_use_norm:
                # 1e-30: finite derivative of the norm at 0
                delta = per_atom = xp.sqrt(xp.sum(delta * delta, axis=-1) + 1e-30)
            if self.use_huber and term != "pf":
                value = huber(per_atom, self._delta(term), xp=xp)
            elif self.loss_func == "mae":
                value = xp.abs(per_atom)
            elif scale is None or self.intensive_ener_virial:
                value = per_atom * per_atom
            else:
                value = delta * delta / scale
            weight = label["atom_pref"] if term == "pf" else 1.0
            out[term] = {"loss": mean(value * weight, xp=xp), "shown": mean(shown * weight, xp=xp)}
        return out

    def _residual(
        self,
        term: str,
        prediction: dict[str, Array],
        label: dict[str, Array],
        neighbours: Neighbours,
        natoms_F: Array,
        *,
        xp: Namespace,
    ) -> tuple[Array, Array | None]:
        """Return label minus prediction, and the number of atoms to divide it by (None for f, ae, pf)."""
        predicted, target = prediction[TERMS[term].output], label[TERMS[term].label]
        if term == "e" and self.enable_atom_ener_coeff:
            predicted = xp.segment_sum(
                label["atom_ener_coeff"] * prediction["atom_energy"], neighbours.frame_N, xp.shape(natoms_F)[0]
            )
        delta = target - predicted
        if term == "f" and self.relative_f is not None:
            delta = delta / (xp.sqrt(xp.sum(target * target, axis=-1, keepdims=True)) + self.relative_f)
        return delta, {"e": natoms_F, "v": xp.expand_dims(natoms_F, axis=-1)}.get(term)

    def _delta(self, term: str) -> float:
        if isinstance(self.huber_delta, float | int):
            return float(self.huber_delta)
        return self.huber_delta[{"e": 0, "ae": 0, "f": 1, "v": 2}[term]]


def huber(x: Array, delta: float, *, xp: Namespace) -> Array:
    """Huber function: x^2/2 up to |x| = delta, beyond linear with equal slope."""
    size = xp.abs(x)
    return xp.where(size < delta, 0.5 * x * x, delta * (size - 0.5 * delta))
