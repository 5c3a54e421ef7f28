"""The public protocol, `package longtake.v1`."""
