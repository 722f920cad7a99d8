"""The shape of every setting, and where its value comes from."""
