"""Classifies, grades and scores the data with reasons, states who holds which right, and decides every access."""
