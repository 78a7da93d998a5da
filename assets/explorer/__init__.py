"""The explorer: an interactive map of a data set, on this machine only."""
