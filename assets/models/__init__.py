"""The models of this deployment: one module each, found by looking; nothing else knows their names."""

import importlib
import pkgutil
from collections.abc import Mapping

from ml_platform.training.spec import ModelSpec


def _find() -> dict[str, ModelSpec]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    specs = [importlib.import_module(f"{__name__}.{name}").SPEC for name in names]
    return {spec.name: spec for spec in specs}


MODELS: Mapping[str, ModelSpec] = _find()
