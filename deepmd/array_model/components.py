"""Walks over the tree of a model: collect, exchange, cast and flag its components, for all kinds alike.

A model is a tree of components: combinations of models, a descriptor and a fitting net, members of a hybrid. Each
component names the fields that hold its children, and the parameters of the children have the same names.
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
    """Return (path in the section of the input, leaf, parameters of the leaf or None) of each leaf."""
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
    """Return the descriptors of a model, with the members of a hybrid in its place."""
    return tuple(leaf for _, leaf, _ in leaves(component) if leaf.role == "descriptor")


def fittings_of(component: Component) -> tuple[FittingNet, ...]:
    """Return the fitting nets of a model."""
    return tuple(leaf for _, leaf, _ in leaves(component) if leaf.role == "fitting_net")


def descriptors_with(component: Component, params: Params) -> list[tuple[str, Any, Params]]:
    """Return (path in the section of the input, descriptor, its parameters) of each of `descriptors_of`."""
    return [row for row in leaves(component, params) if row[1].role == "descriptor"]


def change_descriptors(component: C, change: Callable[[Any], Any]) -> C:
    """Return the model with `change(descriptor)` in place of each of `descriptors_of`."""
    return rebuild(component, lambda leaf: change(leaf) if leaf.role == "descriptor" else leaf)


def exchange_descriptors(component: C, descriptors: Iterable[Any]) -> C:
    """Return the model with `descriptors` in place of its own, in the order of `descriptors_of`."""
    remaining = iter(descriptors)
    return change_descriptors(component, lambda _: next(remaining))


def trainable_flags(component: Component) -> Any:
    """Return the trainable parameters: a tree of flags, each for everything below it.

    Parameters without a flag are fixed, biases of types for instance.
    """
    return map_children(trainable_flags, component) if component.children else component.flags()


def cast_params(component: Component, params: Params, cast: Callable[[Any, str], Any]) -> Params:
    """Return the parameters with `cast(tree, precision)` in place of the parameters of each component."""
    below = map_children(lambda child, own: cast_params(child, own, cast), component, params)
    own = {name: value for name, value in params.items() if name not in below}
    wide = {name: cast(own.pop(name), "float64") for name in component.float64_params if name in own}
    done = {**(cast(own, component.precision) if own else {}), **wide, **below}
    return {name: done[name] for name in params}  # the original order of keys, which files keep


def in_precision(component: Component, params: Params, *, xp: Namespace) -> Params:
    """Return the parameters with every leaf in the precision of its component."""
    return cast_params(
        component,
        params,
        lambda part, precision: map_leaves(lambda leaf: xp.astype(leaf, dtype_of(precision, xp=xp)), part),
    )


def narrow_bfloat16(component: Component, params: Params, narrow: Callable[[Any], Any]) -> Params:
    """Return the parameters with `narrow(part)` in place of each bfloat16 part, which NumPy stores in float32."""
    return cast_params(
        component, params, lambda part, precision: narrow(part) if PRECISIONS[precision] == "bfloat16" else part
    )


def first_atom_matters(component: Component, params: Params) -> bool:
    """Whether atom 0 of a frame changes results (docs/theory/neighbours.md#empty-slots). Runs on the host."""
    return any(descriptor.first_atom_matters(own) for _, descriptor, own in descriptors_with(component, params))
