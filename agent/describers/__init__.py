"""Describers: they name what a head does from its rows, behind one Protocol."""
