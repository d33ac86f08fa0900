"""One run of one job: decide with values, act at the edges."""
