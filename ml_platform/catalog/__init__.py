"""Where every column comes from and who uses it, from the landed file to the prediction; see `graph` for the model."""
