"""What exists: the graph, one module a stage, in the order data flows."""
