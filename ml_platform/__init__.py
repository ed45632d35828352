"""The core of the platform: how it is done. Pure functions and frozen dataclasses; Dagster lives in the shell."""
