"""How soon a killed process is back, what a killed supervisor leaves, and what it costs to ask.

make bench-supervision
"""
