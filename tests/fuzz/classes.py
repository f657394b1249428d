"""All classes of cases, by name. A new one is a module with a table of functions `make(rng, folder) -> Case`."""

import os

from fuzz import api, commands, files, matrices, models, selftest

CLASSES = {**files.CLASSES, **matrices.CLASSES, **models.CLASSES, **api.CLASSES, **commands.CLASSES}
CLASSES = {name.replace(" ", "_"): make for name, make in CLASSES.items()}
if "JAXREC_FUZZ_SELFTEST" in os.environ:
    CLASSES |= selftest.CLASSES
