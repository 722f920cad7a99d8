"""HTTP: a call in, one call on scraper, a value out."""
