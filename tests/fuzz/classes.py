"""All classes of cases, by name. A new one is a module with a table of functions `make(rng, folder) -> Case`."""

from fuzz import files, matrices, models

CLASSES = {**files.CLASSES, **matrices.CLASSES, **models.CLASSES}
CLASSES = {name.replace(" ", "_"): make for name, make in CLASSES.items()}
