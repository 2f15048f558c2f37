"""Scoring trained models, from whatever file holds them."""
