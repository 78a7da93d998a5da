"""Arrays in, findings out: neighbours, audits, probes, layouts and figures.

Nothing here knows a model, a file format, a scheduler or a database.
"""
