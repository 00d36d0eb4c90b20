"""Automatic scores of head descriptions on tokens that the describer did not see (`headscribe score`)."""
