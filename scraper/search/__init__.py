"""Search over all that was stored: from what a person types to what a database is asked, and back to what is shown."""
