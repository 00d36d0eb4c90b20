"""Are the scores read from weights what heads do when the model runs? (METHOD, "How the estimates are checked")."""
