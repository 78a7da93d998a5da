"""Dagster over the three packages: partitions, assets, checks, jobs, sensors, and one command line."""
