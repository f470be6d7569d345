"""What people look at: the report of runs, and the search page."""
