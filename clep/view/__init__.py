"""Pages for the browser: the report of runs, and the search page."""
