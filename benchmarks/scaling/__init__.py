"""How many replicas there should be: a simulation through the real batcher, and the formulas that foretell it."""
