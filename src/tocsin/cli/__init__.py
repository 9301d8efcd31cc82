"""The `tocsin` command line."""

import gc

# Loading the modules makes 400,000 objects and no garbage. Looking for some took an eighth of the time of a start. A
# node sets limits of its own.
gc.set_threshold(500_000, 20, 50)
