"""The strategies, one idea a module; `selection.registry` names them."""
