"""Model families: one module for each, with everything that is particular to its architecture."""
