"""Generated code of the public protocol longtake.v1; its source lies in protos/longtake/v1, and it imports grpcio
and protobuf.
"""
