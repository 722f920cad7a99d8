"""One file a resource, a question or a stream."""
