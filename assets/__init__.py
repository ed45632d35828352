"""What exists: the graph, one module a stage, in the order data flows."""

import warnings

import dagster as dg

# Said at every load otherwise, a hundred lines of it: the lock file pins the version whose beta parts are used.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
