"""Training heads that tell genuine from synthetic media, and evaluating models that do. What needs torch: `models.runners.fit`."""
