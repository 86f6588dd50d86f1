"""Which parameters of a model learn, by the names of its parts, of its modules, or by patterns.

What is frozen stays as it is to the bit: it has no gradient, no place in the optimiser, and is in evaluation mode
while the rest trains, so that it drops nothing out and no statistic of a batch enters its buffers.
"""

import difflib
import fnmatch
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from seamlessalign.errors import ConfigError


def choose_trained(
    model: Any,
    parts: Mapping[str, Sequence[str]],
    trained: Sequence[str] | None,
    frozen: Sequence[str],
    *,
    keys: tuple[str, str] = ("trained", "freeze"),
) -> list[str]:
    """Set `requires_grad` of every parameter; the names of those that learn, in the model's order.

    A name is that of a part, of a module or parameter with dots (`t2u_model.model.encoder.layers.0`), or a pattern of
    parameters' names (`*.layer_norm.*`). A parameter that modules share has one name, the first that torch tells.

    Args:
        parts: name → the modules or parameters of a part, by their names in the model.
        trained: what learns; None: everything.
        frozen: what of that does not.
        keys: what the configuration calls the two, for errors.

    Raises:
        ConfigError: a name matches nothing, or nothing is left to learn.
    """
    names = [name for name, _ in model.named_parameters()]
    chosen = set(names) if trained is None else _matching(model, names, parts, trained, keys[0])
    chosen -= _matching(model, names, parts, frozen, keys[1])
    if not chosen:
        raise ConfigError(f"{keys[0]} and {keys[1]} leave nothing to learn")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    return [name for name in names if name in chosen]


def train_unfrozen(model: Any) -> None:
    """Put a model into training mode, but for modules whose parameters are all frozen, and all that is in them.

    Modules without parameters, such as dropout, are as the module around them is.
    """
    model.train()
    names = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    _quieten(model, "", names)


def _quieten(module: Any, name: str, learns: Mapping[str, bool]) -> None:
    own = [value for parameter, value in learns.items() if _is_within(parameter, name)]
    if own and not any(own):
        module.eval()
        return
    for child, inner in module.named_children():
        _quieten(inner, f"{name}.{child}" if name else child, learns)


def _matching(
    model: Any, names: Sequence[str], parts: Mapping[str, Sequence[str]], wanted: Sequence[str], key: str
) -> set[str]:
    found: set[str] = set()
    for name in wanted:
        places = parts.get(name, [name])
        here = {one for one in names if any(_is_within(one, place) for place in places)}
        here |= set(fnmatch.filter(names, name))
        if not here:
            modules = [place for place, _ in model.named_modules() if place]
            raise ConfigError(f"{key}: {name!r} matches no parameter; {_near(name, parts, [*modules, *names])}")
        found |= here
    return found


def _near(name: str, parts: Mapping[str, Sequence[str]], others: Collection[str]) -> str:
    near = difflib.get_close_matches(name, [*parts, *others], n=3, cutoff=0.5)
    hint = f"near are {', '.join(near)}; " if near else ""
    return f"{hint}parts are {', '.join(parts)}"


def _is_within(name: str, place: str) -> bool:
    return not place or name == place or name.startswith(f"{place}.")
