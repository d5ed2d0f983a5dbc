"""The zoo: one paper per file, grouped by task. ``jaxseg.registry`` finds whatever lies here."""
