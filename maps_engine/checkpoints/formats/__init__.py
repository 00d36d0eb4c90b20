"""Files of checkpoints: finding them, fetching them, reading tensors out of them lazily."""
