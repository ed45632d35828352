"""The record of training attempts in MLflow, and MLflow's registry as a mirror of the ledger."""
