"""The strategies, one idea in each module; `selection.registry` lists them."""
