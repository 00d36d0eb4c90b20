"""Checks: experiments with forward passes, scores of descriptions, rating studies and the web app."""
