"""How close closed forms of the low-rank EDLAE come to its optimum."""
