"""Ratios against peers, measured side by side in the same run. No figure is absolute."""
