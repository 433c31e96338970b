"""Tools of the checkout; nothing here runs in production."""
