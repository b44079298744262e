"""The fault matrix: real processes on hosts of their own, struck while they work. `make chaos` runs it."""
