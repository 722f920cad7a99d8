"""What people crawl with: each a program of its own, given the start page and a folder to keep the products in."""
