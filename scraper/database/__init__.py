"""The tables and their verbs. An engine belongs to the process that made it; write() and read() are the only doors."""

from sqlalchemy import Connection, Row

from scraper.database.connection import Db

__all__ = ["Connection", "Db", "Row"]
