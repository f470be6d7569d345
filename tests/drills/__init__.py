"""Long drills that damage and kill on purpose, run by `make kills`, `make mutations` and `make power-cuts`."""
