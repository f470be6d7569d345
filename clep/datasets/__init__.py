"""File formats of published datasets, one dataset a file."""
