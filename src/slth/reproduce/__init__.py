"""Every table and figure of the papers, beside the papers' numbers; one module a paper, one function an experiment."""
