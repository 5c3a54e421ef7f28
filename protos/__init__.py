"""The definitions of the wire and what makes code and a document of them; it imports protobuf only."""
