"""Notifications: what people are told of, worked out from the database, kept there until it is delivered."""
