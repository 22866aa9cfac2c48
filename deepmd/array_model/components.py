"""One walk over the tree of a model: what is asked of its parts, and how its parts are exchanged.

A model is a tree of components: models of models, a descriptor and a fitting net, members of a hybrid. Each component
names the fields that hold its children, and their parameters have the same names, so that every function here is the
same for all kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from deepmd.array_model.contracts import Component, Descriptor, FittingNet
from deepmd.array_model.namespace import PRECISIONS, Namespace, Params, dtype_of
from deepmd.array_model.tree import map_leaves

C = TypeVar("C", bound=Component)


def map_children(function: Callable[..., Any], component: Component, *trees: Any) -> dict[str, Any]:
    """Return {field: function(child, its entries of the trees)}, with a list where the field holds several children."""
    out: dict[str, Any] = {}
    for name in component.children:
        child, entries = getattr(component, name), [tree[name] for tree in trees]
        if isinstance(child, tuple):
            out[name] = [function(each, *own) for each, *own in zip(child, *entries, strict=True)]
        else:
            out[name] = function(child, *entries)
    return out


def leaves(component: Component, params: Params | None = None, where: str = "") -> list[tuple[str, Any, Any]]:
    """Return the leaves: path in the section of the input, leaf, its parameters (None if not given)."""
    if not component.children:
        return [(where, component, params)]
    out = []
    for name in component.children:
        child, own = getattr(component, name), None if params is None else params[name]
        each = child if isinstance(child, tuple) else (child,)
        entries = own if isinstance(own, list) else [own] * len(each)
        for number, (one, entry) in enumerate(zip(each, entries, strict=True)):
            out += leaves(one, entry, where + component.sections[name].format(number))
    return out


def rebuild(component: C, change: Callable[[Any], Any]) -> C:
    """Return the tree with `change(leaf)` in place of each leaf."""
    if not component.children:
        return change(component)  # type: ignore[no-any-return]
    parts = map_children(lambda child: rebuild(child, change), component)
    parts = {name: tuple(part) if isinstance(part, list) else part for name, part in parts.items()}
    return replace(component, **parts)  # type: ignore[type-var]


def descriptors_of(component: Component) -> tuple[Descriptor, ...]:
    """Return the descriptors of a model, members of hybrids one by one."""
    return tuple(leaf for _, leaf, _ in leaves(component) if leaf.role == "descriptor")


def fittings_of(component: Component) -> tuple[FittingNet, ...]:
    """Return the fitting nets of a model."""
    return tuple(leaf for _, leaf, _ in leaves(component) if leaf.role == "fitting_net")


def descriptors_with(component: Component, params: Params) -> list[tuple[str, Any, Params]]:
    """Return `descriptors_of`: the path in the section of the input, the descriptor, its parameters."""
    return [row for row in leaves(component, params) if row[1].role == "descriptor"]


def change_descriptors(component: C, change: Callable[[Any], Any]) -> C:
    """Return the model with `change(descriptor)` in place of each of `descriptors_of`."""
    return rebuild(component, lambda leaf: change(leaf) if leaf.role == "descriptor" else leaf)


def exchange_descriptors(component: C, descriptors: Iterable[Any]) -> C:
    """Return the model with other descriptors, in the order of `descriptors_of`."""
    remaining = iter(descriptors)
    return change_descriptors(component, lambda _: next(remaining))


def trainable_flags(component: Component) -> Any:
    """Return which parameters training may change: a tree of flags, one for everything below it.

    What is absent is fixed, biases of types for instance.
    """
    return map_children(trainable_flags, component) if component.children else component.flags()


def cast_params(component: Component, params: Params, cast: Callable[[Any, str], Any]) -> Params:
    """Return the parameters with `cast(tree, precision)` in place of each part that computes in one precision."""
    below = map_children(lambda child, own: cast_params(child, own, cast), component, params)
    own = {name: value for name, value in params.items() if name not in below}
    wide = {name: cast(own.pop(name), "float64") for name in component.float64_params if name in own}
    done = {**(cast(own, component.precision) if own else {}), **wide, **below}
    return {name: done[name] for name in params}  # in their order, which files keep


def in_precision(component: Component, params: Params, *, xp: Namespace) -> Params:
    """Return the parameters with every leaf in the precision that its component computes in."""
    return cast_params(
        component,
        params,
        lambda part, precision: map_leaves(lambda leaf: xp.astype(leaf, dtype_of(precision, xp=xp)), part),
    )


def narrow_bfloat16(component: Component, params: Params, narrow: Callable[[Any], Any]) -> Params:
    """Return the parameters with `narrow(part)` in place of each part in bfloat16, which NumPy stores in float32."""
    return cast_params(
        component, params, lambda part, precision: narrow(part) if PRECISIONS[precision] == "bfloat16" else part
    )


def first_atom_matters(component: Component, params: Params) -> bool:
    """Whether results depend on the first atom of a frame (docs/theory/neighbours.md#empty-slots). On the host."""
    return any(descriptor.first_atom_matters(own) for _, descriptor, own in descriptors_with(component, params))
