"""Enrichment: how well workers are kept busy, that nothing is lost or doubled, vectors, and what searches find."""
