"""Linear autoencoders whose optimum is a formula: everything about B = I - C D(s) but the methods themselves."""
