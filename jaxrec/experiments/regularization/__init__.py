"""How well autoencoders fit their training data, by depth, and what that means on test users."""
