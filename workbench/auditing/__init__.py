"""Which labels are probably wrong: ranked by what a run and the ground truth say of each other."""
