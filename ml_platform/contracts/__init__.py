"""What a published table promises, said once: see `ml_platform.contracts.contract`."""

from ml_platform.contracts.contract import (
    AS_OF,
    CheckOutcome,
    Column,
    Contract,
    ContractViolation,
    FeatureTable,
)

__all__ = ["AS_OF", "CheckOutcome", "Column", "Contract", "ContractViolation", "FeatureTable"]
