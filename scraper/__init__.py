"""Everything of Bowerbird that works without HTTP."""
