"""`fit_to_data`: the closed-form circuit corrected by a few numbers per population, so that it follows the ideal run.

May import the nouns, the arrows `import_`, `sim`, `quant`, `export`, `backend` and `evaluation`; not `training`, which
starts from what is fitted here.
"""
