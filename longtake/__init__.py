"""Longtake serves hour-scale, steerable video streams; here lie what its users import and the core, and this
package imports nothing.
"""
