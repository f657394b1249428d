"""What weights of the errors gain, by family of models, regularizer and rank."""
