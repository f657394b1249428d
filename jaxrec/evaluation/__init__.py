"""What a ranking is worth: rankings, metrics, reports, and every user scored by the model of all others."""
