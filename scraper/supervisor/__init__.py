"""Starts, watches and ends processes. Knows neither crawling nor the database."""
