"""Generated code of longtake.link.v1; its source lies in protos/longtake/link/v1, and it imports grpcio and
protobuf.
"""
