"""The web page on which streams are watched and steered: a client of the gRPC service that speaks to browsers."""
